"""What every facade stands on: where its sessions come from, the clock, the providers, the moment it is about."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, Protocol

from memground.clock import Clock, as_utc
from memground.embedding import EmbeddingProvider
from memground.filters import Filter
from memground.postgres.queue import JobPolicy
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.extraction.policy import DigestPolicy, ExtractionPolicy, HygieneRules
from neuromem.providers.llm import LLMProvider
from neuromem.providers.storage import ObjectStorage
from neuromem.ranking import RankingProfile
from neuromem.services.file_processor import FileProcessor

type Where = Filter | Mapping[str, Any]


class SessionSource(Protocol):
    """Where facades get their sessions: the opened database, or one transaction they all share."""

    def session(self) -> AbstractAsyncContextManager[Session]: ...

    def read(self) -> AbstractAsyncContextManager[Session]: ...


@dataclass(frozen=True)
class Context:
    """What facades stand on.

    `as_of`: the moment every read is about (None: each call says). `announce` is told after a write that made
    background work. `llm` and `storage` are None where none was given. `extraction`: when what is ingested is extracted
    (None: never by itself), `hygiene`: how that is kept tidy; `digest`: when memories are reflected on by themselves
    (None: never). `graph_enabled`: whether extraction stores relations and recall reads them. `timezone`: whose clocks
    say what "yesterday" is, where a call does not say. `files` reads what is uploaded; `jobs`: how background work is
    done.
    """

    source: SessionSource
    clock: Clock
    embedding: EmbeddingProvider
    ranking: RankingProfile
    announce: Callable[[], None]
    as_of: datetime | None = None
    llm: LLMProvider | None = None
    storage: ObjectStorage | None = None
    extraction: ExtractionPolicy | None = None
    hygiene: HygieneRules = field(default_factory=HygieneRules)
    digest: DigestPolicy | None = None
    graph_enabled: bool = True
    timezone: tzinfo = UTC
    files: FileProcessor = field(default_factory=FileProcessor)
    jobs: JobPolicy = field(default_factory=JobPolicy)

    def view(self, as_of: datetime | None = None, valid_at: datetime | None = None) -> View:
        asked = None if as_of is None else as_utc(as_of, "as_of")
        if self.as_of is not None:
            # A view of the past knows nothing later than itself.
            asked = self.as_of if asked is None else min(asked, self.as_of)
        return View.of(self.clock, asked, valid_at)

    def zone(self, timezone: str | None) -> tzinfo:
        """The time zone of a call."""
        return self.timezone if timezone is None else checks.timezone(timezone)

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Session]:
        """A session whose commit wakes the background worker."""
        async with self.source.session() as session:
            yield session
        self.announce()
