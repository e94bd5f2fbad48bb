"""The front door."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Self

from memground.clock import Clock, SystemClock, as_utc
from memground.embedding import EmbeddingProvider, LocalEmbedding
from memground.errors import ConfigurationError, InvalidInputError, UnavailableError
from memground.postgres.queue import JobPolicy, JobQueue
from memground.postgres.statistics import freshen
from neuromem import checks
from neuromem.db import DEFAULT_SCHEMA, Database, Session
from neuromem.documents import FileLimits
from neuromem.extraction.policy import DigestPolicy, ExtractionPolicy, HygieneRules
from neuromem.facades import AsOf, Context, Moving, Transaction, Writer
from neuromem.providers.llm import LLMProvider
from neuromem.providers.local_storage import LocalStorage
from neuromem.providers.prepared import PreparedStorage
from neuromem.providers.storage import ObjectStorage
from neuromem.providers.watched import EmbeddingHook, LLMHook, WatchedEmbedding, WatchedLLM
from neuromem.queries.digest import DIGEST
from neuromem.queries.extraction import EXTRACT
from neuromem.ranking import RankingProfile
from neuromem.services.background import BackgroundWorker
from neuromem.services.digesting import Digester, DigestJobs
from neuromem.services.extracting import MessageExtractor
from neuromem.services.extraction_jobs import ExtractionJobs
from neuromem.services.file_processor import FileProcessor
from neuromem.services.indexing import IndexKeeper
from neuromem.services.reembedding import Progress, Reembedding
from neuromem.services.stored_objects import REMOVE_OBJECT
from neuromem.types import BackgroundStatus, DigestResult, ExtractionStatus, Reembedded


class NeuroMemory(Moving, Writer):
    """Memory for an AI agent on one PostgreSQL.

    ::

        async with NeuroMemory() as nm:
            await nm.ingest("anna", "user", "I moved to Porto last week.")
            found = await nm.recall("anna", "where does she live?")
            print(found.merged[0].content)

    `database_url`: a PostgreSQL URL (`postgresql://user@host/db?sslmode=require`); None starts an embedded PostgreSQL
    in your home folder, `embedded:///folder` in a folder of yours. `embedding`: default the local MiniLM (English;
    install it once with `neuromem model install`). `schema`: the PostgreSQL schema all tables live in. `ranking`: how
    hits are scored. `llm`: the language model that extracts memories (None: messages are stored and searched as they
    are). `storage`: where files are kept (LocalStorage, S3Storage or one of yours; None: with the embedded PostgreSQL a
    folder beside its data). `on_llm_call`, `on_embedding_call`: functions, async or not, told of every call of a model
    (`LLMCall`, `EmbeddingCall`); what they raise is logged. Providers you pass are yours to close.
    `auto_extract`: whether what is ingested is extracted; `extraction`: when (given without `llm`, a program that has
    one does it, such as `neuromem worker`); `hygiene`: how that is kept tidy. `digest`: when memories are reflected on
    by themselves (None: only when `digest()` is called).
    `graph_enabled`: whether extraction stores relations and `recall` reads them (`nm.graph` works either way).
    `background`: whether this program works off background jobs (True, False, or a JobPolicy with its settings).
    `clock`: tells the time. `pool_size`: database connections. `timezone`: an IANA name ("Europe/Lisbon"), by
    whose clocks questions name times ("yesterday"), unless a call says otherwise. `file_limits`: how large files may
    be (default: `FileLimits()`).

    Use it as `async with`, or call `init()` and `close()`. One instance belongs to one event loop.
    """

    def __init__(
        self,
        database_url: str | None = None,
        embedding: EmbeddingProvider | None = None,
        llm: LLMProvider | None = None,
        storage: ObjectStorage | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        auto_extract: bool = True,
        graph_enabled: bool = True,
        ranking: RankingProfile | None = None,
        extraction: ExtractionPolicy | None = None,
        hygiene: HygieneRules | None = None,
        digest: DigestPolicy | None = None,
        background: bool | JobPolicy = True,
        clock: Clock | None = None,
        pool_size: int = 10,
        on_llm_call: LLMHook | None = None,
        on_embedding_call: EmbeddingHook | None = None,
        timezone: str = "UTC",
        file_limits: FileLimits | None = None,
    ) -> None:
        checks.instance(embedding, "embedding", EmbeddingProvider | None, "an EmbeddingProvider")
        checks.instance(llm, "llm", LLMProvider | None, "an LLMProvider such as OpenAILLM(…)")
        checks.instance(storage, "storage", ObjectStorage | None, "an ObjectStorage")
        checks.function(on_llm_call, "on_llm_call")
        checks.function(on_embedding_call, "on_embedding_call")
        checks.instance(ranking, "ranking", RankingProfile | None, "a RankingProfile")
        checks.instance(auto_extract, "auto_extract", bool, "True or False")
        checks.instance(graph_enabled, "graph_enabled", bool, "True or False")
        checks.instance(extraction, "extraction", ExtractionPolicy | None, "an ExtractionPolicy")
        checks.instance(hygiene, "hygiene", HygieneRules | None, "HygieneRules")
        checks.instance(digest, "digest", DigestPolicy | None, "a DigestPolicy")
        checks.instance(background, "background", bool | JobPolicy, "True, False or a JobPolicy")
        checks.instance(file_limits, "file_limits", FileLimits | None, "a FileLimits")
        checks.instance(clock, "clock", Clock | None, "a Clock")
        self._model = LocalEmbedding() if embedding is None else embedding
        self._owns_embedding = embedding is None
        self._embedding = WatchedEmbedding(self._model, on_embedding_call) if on_embedding_call else self._model
        self._db = Database(
            database_url,
            dims=self._embedding.dims,
            model_id=self._embedding.model_id,
            schema=schema,
            pool_size=pool_size,
            clock=clock,
        )
        self._policy = background if isinstance(background, JobPolicy) else JobPolicy()
        self._works = background is not False
        self._worker: BackgroundWorker | None = None
        self._indexes: IndexKeeper | None = None
        self._extraction = extraction or ExtractionPolicy()
        super().__init__(
            Context(
                source=self._db,
                clock=clock or SystemClock(),
                embedding=self._embedding,
                ranking=ranking or RankingProfile(),
                announce=self._announce,
                llm=None if llm is None else WatchedLLM(llm, on_llm_call),
                storage=self._prepared(storage),
                extraction=self._extraction if auto_extract and (llm or extraction) is not None else None,
                hygiene=hygiene or HygieneRules(),
                digest=digest,
                graph_enabled=graph_enabled,
                timezone=checks.timezone(timezone),
                files=FileProcessor(file_limits),
                jobs=self._policy,
            )
        )

    def _prepared(self, storage: ObjectStorage | None) -> ObjectStorage | None:
        """The storage, or where files are kept beside an embedded server."""
        if storage is not None:
            return PreparedStorage(lambda: storage)
        folder = self._db.folder
        return None if folder is None else PreparedStorage(lambda: LocalStorage(folder / "files"))

    async def init(self) -> None:
        """Opens the database (creating or upgrading the schema) and starts the background worker.

        Raises ConfigurationError (an address, login or extension is wrong), ModelMissingError, ModelMismatchError,
        UnavailableError (the server does not answer).
        """
        if isinstance(self._model, LocalEmbedding):
            self._model.ensure_installed()
        await self._db.init()
        if self._works and self._worker is None:
            self._worker = BackgroundWorker(
                self._db,
                self._embedding,
                self._policy,
                extractor=self._extractor(),
                digester=self._digester(),
                storage=self._context.storage,
            )
            self._worker.start()
            self._indexes = IndexKeeper(self._db)
            self._indexes.start()

    async def close(self) -> None:
        """Stops the background worker (its jobs stay recorded) and gives the connections back.

        With `ExtractionPolicy(on_shutdown=True)` what waits is extracted first; what fails stays recorded.
        """
        worker, self._worker = self._worker, None
        indexes, self._indexes = self._indexes, None
        if indexes is not None:
            await indexes.stop()
        if worker is not None:
            await worker.stop()
            if self._extraction.on_shutdown and self._context.llm is not None:
                async with self._db.session() as session:
                    await ExtractionJobs(session).hurry()
                await worker.extract_what_is_due()
        await self._db.close()
        if self._owns_embedding:
            await self._embedding.close()

    async def __aenter__(self) -> Self:
        await self.init()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def as_of(self, moment: datetime) -> AsOf:
        """All reads as they would have answered at `moment`."""
        return AsOf(replace(self._context, as_of=as_utc(moment, "moment")))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """The same calls in one transaction: commits at the end of the block, rolls back on an error.

        ::

            async with nm.transaction() as tx:
                await tx.add_memory("anna", "lives in Porto")
                await tx.kv.set("profile", "anna", "city", "Porto")
        """
        announced = False

        def announce() -> None:
            nonlocal announced
            announced = True

        async with self._db.session() as session:
            session.shared = True
            shared = _Shared(session)
            yield Transaction(replace(self._context, source=shared, announce=announce))
        if announced:
            self._announce()

    def _extractor(self) -> MessageExtractor | None:
        context = self._context
        if context.llm is None:
            return None
        return MessageExtractor(
            self._db,
            context.embedding,
            context.llm,
            jobs=self._policy,
            policy=self._extraction,
            rules=context.hygiene,
            graph_enabled=context.graph_enabled,
            timezone=context.timezone,
            digest=context.digest,
        )

    def _digester(self) -> Digester | None:
        context = self._context
        if context.llm is None:
            return None
        return Digester(
            self._db,
            context.embedding,
            context.llm,
            jobs=self._policy,
            policy=context.digest,
            rules=context.hygiene,
            timezone=context.timezone,
        )

    async def digest(self, user_id: str, *, limit: int = 50) -> DigestResult:
        """Reflects on what is new: insights that several memories show together, and how the user feels.

        The language model reads the latest `limit` (1 to 1,000) of the memories that are news since the last digest;
        all news counts as read then. Insights are memories of type "insight", each with the memories it rests on as
        `sources`; one that is found again gains sources. One call of the language model, a second where the news tells
        of emotions, and one embedding batch; without news none, and nothing is written.

        All of it is stored at once, or nothing. Raises ConfigurationError (no language model), ConflictError (the
        memories change faster than they are read), ProviderError, UnavailableError.
        """
        checks.name(user_id, "user_id")
        checks.limit(limit)
        digester = self._digester()
        if digester is None:
            raise ConfigurationError("a digest needs a language model; pass llm= to NeuroMemory")
        return await digester.digest(user_id, limit=limit)

    async def wait_idle(self, timeout: float | None = None) -> None:
        """Waits until no background work is left; failed work does not count.

        Turns that wait to be extracted are not waited for but extracted now, and memories that wait for a digest are
        digested. Without a language model both are left to programs that have one, and without a storage the removal of
        objects to those that have one. Raises UnavailableError after
        `timeout` seconds.
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"timeout={timeout!r} is not accepted; pass seconds from 0 on, or None")
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while waiting := await self._left_to_do():
            if deadline is not None and loop.time() > deadline:
                raise UnavailableError(f"{waiting} background jobs are still waiting after {timeout} s")
            self._announce()
            await asyncio.sleep(0.02)
        await freshen(self._db.engine, self._db.schema)  # so that it is quick, too, after an import

    async def _left_to_do(self) -> int:
        """How many jobs wait that this program can do, those that wait for their time made due."""
        extracts = self._context.llm is not None
        if extracts:
            async with self._db.session() as session:
                await ExtractionJobs(session).hurry()
                await DigestJobs(session).hurry()
        async with self._db.read() as session:
            jobs = session.tables.jobs
            undone = [] if extracts else [EXTRACT, DIGEST]
            undone += [] if self._context.storage is not None else [REMOVE_OBJECT]
            kinds = [jobs.c.kind != kind for kind in undone]
            return (await JobQueue(jobs).status(session, *kinds)).waiting

    async def background_status(self, user_id: str | None = None) -> BackgroundStatus:
        """How much background work waits and how much has failed, in all or for one user."""
        async with self._db.read() as session:
            jobs = session.tables.jobs
            where = [] if user_id is None else [jobs.c.owner == checks.name(user_id, "user_id")]
            return await JobQueue(jobs).status(session, *where)

    async def retry_failed(self, user_id: str | None = None) -> int:
        """Gives failed background work (of one user) another round of tries; returns how many jobs."""
        async with self._db.session() as session:
            jobs = session.tables.jobs
            where = [] if user_id is None else [jobs.c.owner == checks.name(user_id, "user_id")]
            count = await JobQueue(jobs).retry_failed(session, *where)
        self._announce()
        return count

    async def extract(self, user_id: str, *, session_id: str | None = None) -> int:
        """Has all messages of a user (of one session) extracted that were not yet; returns how many.

        Such are those ingested before there was a language model. It is done in the background: see `wait_idle`,
        `extraction_status`.
        """
        async with self._db.session() as session:
            count = await ExtractionJobs(session).plan(user_id, session_id)
        self._announce()
        return count

    async def extraction_status(self, user_id: str) -> ExtractionStatus:
        """How many of a user's messages are extracted, wait, or could not be, and why."""
        async with self._db.read() as session:
            return await ExtractionJobs(session).status(user_id)

    async def retry_failed_extractions(self, user_id: str | None = None) -> int:
        """Gives extractions that failed (of one user) another round of tries; returns how many."""
        async with self._db.session() as session:
            count = await ExtractionJobs(session).retry(user_id)
        self._announce()
        return count

    def _announce(self) -> None:
        if self._worker is not None:
            self._worker.wake()


async def reembed(
    database_url: str | None,
    embedding: EmbeddingProvider,
    *,
    schema: str = DEFAULT_SCHEMA,
    progress: Progress | None = None,
    abandon: bool = False,
) -> Reembedded:
    """Changes the embedding model of a schema: makes every vector anew with `embedding`, then switches at once.

    Other programs work on with the old model until the switch; from then on they raise ModelMismatchError. Killed or
    failed, it goes on where it was when it is called again. `progress` is told how many vectors there are and how many
    there will be. `abandon`: give up a change that was begun, and drop its vectors, instead.

    Raises ConfigurationError (no such schema, or another change is half done), ConflictError (another program does the
    same now), and what the provider raises.
    """
    checks.instance(embedding, "embedding", EmbeddingProvider, "an EmbeddingProvider")
    if isinstance(embedding, LocalEmbedding) and not abandon:
        embedding.ensure_installed()
    async with Database.recorded(database_url, schema=schema, pool_size=4) as database:
        work = Reembedding(database, embedding, progress)
        if not abandon:
            return await work.run()
        await work.abandon()
        return Reembedded(database.model_id, database.model_id, database.dims, 0, 0)


class _Shared:
    """Hands the same session to every facade of a transaction; only the transaction commits."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        yield self._session

    read = session
