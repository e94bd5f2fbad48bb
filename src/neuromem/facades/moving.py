"""Taking a user to another database."""

from collections.abc import AsyncIterator
from typing import Any

from neuromem import checks
from neuromem.db import Database
from neuromem.facades.context import Context
from neuromem.services.exporting import Along, UserExport
from neuromem.services.imported_objects import Destination
from neuromem.services.importing import Given, ImportProgress, UserImport
from neuromem.types import ImportedUser


class Moving:
    """Whole users out and in; in no transaction of others: an export is a snapshot, an import is all or nothing."""

    _context: Context
    _db: Database

    def export_user_data(
        self, user_id: str, *, vectors: bool = True, objects: bool = True
    ) -> AsyncIterator[dict[str, Any]]:
        """Everything a user has, every version of it, as records that JSON can hold; one snapshot, in constant memory.

        ::

            async for record in nm.export_user_data("anna"):
                file.write(json.dumps(record) + "\\n")

        The first record is a header, the last says that nothing is missing. `vectors=False` leaves them out; an import
        makes them anew. The bytes of files come after the rows, one file in memory at a time; `objects=False` leaves
        them out, and what is imported from it has the texts of files alone. Until the last row is read, it keeps a
        connection and the snapshot.

        Raises InvalidInputError; ConfigurationError, before any record, for files without a storage; NotFoundError and
        ProviderError for a file whose bytes are gone, or others; UnavailableError.
        """
        checks.name(user_id, "user_id")
        checks.instance(vectors, "vectors", bool, "True or False")
        checks.instance(objects, "objects", bool, "True or False")
        context = self._context
        return UserExport(self._db.read, context.embedding, context.storage, Along(vectors, objects)).records(user_id)

    async def import_user_data(
        self, user_id: str, records: Given, *, objects: bool = True, progress: ImportProgress | None = None
    ) -> ImportedUser:
        """Restores a user from the records of `export_user_data`: the same ids, versions and times; all or nothing.

        `user_id`: what the user is called here, which may be another name. The vectors of another embedding model are
        made anew: those of memories before anything is stored, those of messages in the background. `progress` is told
        what is being done ("reading", "embedding", "uploading", "storing"), how much of it is done, and how much there
        is. Files go into this mind's storage, under keys of its own; `objects=False` leaves their bytes out.

        Raises ConflictError when the user has anything here already, or somebody else has what the export names;
        InvalidInputError, with the number of the record, when one is wrong, and when some are missing;
        ConfigurationError when there are files and no storage.
        """
        checks.instance(objects, "objects", bool, "True or False")
        context = self._context
        destination = Destination(context.storage, context.jobs, context.files.limits) if objects else None
        moved = UserImport(self._db.session, context.embedding, user_id, progress, destination)
        done = await moved.run(records)
        self._context.announce()
        return done
