"""Everything a user has, as records."""

from collections.abc import AsyncGenerator
from typing import Any

from memground.embedding import EmbeddingProvider
from neuromem import checks
from neuromem.db import Session
from neuromem.migrations import MIGRATIONS
from neuromem.queries import moving as queries
from neuromem.services.export_records import FORMAT, VERSION, Checksum, row_record


class ExportService:
    """Reads in the session's one snapshot, a part of the rows at a time."""

    def __init__(self, session: Session, embedding: EmbeddingProvider) -> None:
        self._session = session
        self._tables = session.tables
        self._embedding = embedding

    async def records(self, user_id: str, *, vectors: bool) -> AsyncGenerator[dict[str, Any]]:
        """The header, every row of every table, the end; without `vectors` they are made anew where it is imported."""
        values = {"user_id": checks.name(user_id, "user_id")}
        counted = {row["name"]: row["rows"] for row in await self._session.fetch(queries.counts(self._tables), values)}
        moved = [part for part in queries.parts(self._tables) if vectors or part.name != "conversation_embeddings"]
        counts = {part.name: counted[part.name] for part in moved if counted[part.name]}
        checksum = Checksum()
        header = {
            "record": "header",
            "format": FORMAT,
            "version": VERSION,
            "user_id": user_id,
            "exported_at": self._session.clock.now().isoformat(),
            "model": self._embedding.model_id,
            "dims": self._embedding.dims,
            "revision": MIGRATIONS.head,
            "vectors": vectors,
            "rows": counts,
        }
        checksum.add(header)
        yield header
        for part in moved:
            async for rows in self._session.portions(queries.rows(part, vectors=vectors), values):
                for row in rows:
                    record = row_record(part, row)
                    checksum.add(record)
                    yield record
        yield {"record": "end", "records": checksum.records + 1, "rows": counts, "sha256": str(checksum)}
