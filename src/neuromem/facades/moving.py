"""Taking a user to another database."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from neuromem import checks
from neuromem.db import Database
from neuromem.facades.context import Context
from neuromem.services.exporting import ExportService
from neuromem.services.importing import Given, ImportProgress, UserImport
from neuromem.types import ImportedUser


class Moving:
    """Whole users out and in; in no transaction of others: an export is a snapshot, an import is all or nothing."""

    _context: Context
    _db: Database

    def export_user_data(self, user_id: str, *, vectors: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Everything a user has, every version of it, as records that JSON can hold; one snapshot, in constant memory.

        ::

            async for record in nm.export_user_data("anna"):
                file.write(json.dumps(record) + "\\n")

        The first record is a header, the last says that nothing is missing. `vectors=False` leaves them out; an import
        makes them anew. While it is read, it keeps a connection and the snapshot. Raises InvalidInputError.
        """
        checks.name(user_id, "user_id")
        checks.instance(vectors, "vectors", bool, "True or False")
        return self._exported(user_id, vectors=vectors)

    async def import_user_data(
        self, user_id: str, records: Given, *, progress: ImportProgress | None = None
    ) -> ImportedUser:
        """Restores a user from the records of `export_user_data`: the same ids, versions and times; all or nothing.

        `user_id`: what the user is called here, which may be another name. The vectors of another embedding model are
        made anew: those of memories before anything is stored, those of messages in the background. `progress` is told
        what is being done ("reading", "embedding", "storing"), how much of it is done, and how much there is.

        Raises ConflictError when the user has anything here already, or somebody else has what the export names;
        InvalidInputError, with the number of the record, when one is wrong, and when some are missing.
        """
        moved = UserImport(self._db.session, self._context.embedding, user_id, progress)
        done = await moved.run(records)
        self._context.announce()
        return done

    async def _exported(self, user_id: str, *, vectors: bool) -> AsyncGenerator[dict[str, Any]]:
        async with self._db.read() as session:
            records = ExportService(session, self._context.embedding).records(user_id, vectors=vectors)
            async with aclosing(records):
                async for record in records:
                    yield record
