"""The calls of a mind itself that erase for good, and those that say what they would erase."""

from datetime import datetime

from memground.errors import UnsupportedError
from neuromem.db import Database
from neuromem.facades.context import Context
from neuromem.services.erased import Aftermath
from neuromem.services.erasing import ErasureService, Target
from neuromem.types import ErasurePreview, ErasureReceipt, MemoryRef


class Erasing:
    """Erases for good: absent at every moment, and nothing brings it back. Each call is a transaction of its own."""

    _context: Context

    async def preview_erasure(
        self,
        user_id: str,
        *,
        memory_id: MemoryRef | None = None,
        message_id: MemoryRef | None = None,
        document_id: MemoryRef | None = None,
        before: datetime | None = None,
    ) -> ErasurePreview:
        """What erasing a memory, a message, a document, the history before a moment, or (none of them given) the whole
        user would remove now. Raises NotFoundError."""
        target = Target.of(user_id, memory_id=memory_id, message_id=message_id, document_id=document_id, before=before)
        async with self._context.source.read() as session:
            return await ErasureService(session).preview(target)

    async def delete_user_data(self, user_id: str) -> ErasureReceipt:
        """Erases everything of a user: all rows of all tables at every version, stored files, and work under way.

        One transaction, all or nothing. A write that comes meanwhile waits, and is new data. A user of whom nothing is
        known gets a receipt of nothing.
        """
        return await self._erase(Target.of(user_id))

    async def erase_memory(self, user_id: str, memory_id: MemoryRef) -> ErasureReceipt:
        """Erases a memory at every version, and what was derived from it (insights, words of the emotion profile).

        The messages it came from stay: erase them too where they are meant. Raises NotFoundError.
        """
        return await self._erase(Target.thing(user_id, "memory", memory_id))

    async def erase_message(self, user_id: str, message_id: MemoryRef) -> ErasureReceipt:
        """Erases a message, and what was derived from it: memories, relations, values of the profile, insights.

        What other messages told as well goes too where it cannot be told apart; they are then extracted anew
        (`read_again`). Raises NotFoundError.
        """
        return await self._erase(Target.thing(user_id, "message", message_id))

    async def erase_document(self, user_id: str, document_id: MemoryRef) -> ErasureReceipt:
        """Erases a document at every version with its stored file, its chunks and what was derived from them.

        Raises NotFoundError.
        """
        return await self._erase(Target.thing(user_id, "document", document_id))

    async def purge_history(self, user_id: str, before: datetime) -> ErasureReceipt:
        """Erases the states that ended at `before` or earlier, and stored files that only they name.

        The present and every moment from `before` on answer as they did. An earlier moment then knows only what lasted
        until `before`; `history` shows what is left, and `rollback` refuses to go there.
        """
        return await self._erase(Target.history(user_id, before))

    async def _erase(self, target: Target) -> ErasureReceipt:
        context, source = self._context, self._context.source
        if not isinstance(source, Database):
            raise UnsupportedError(
                "erasing is a transaction of its own, because it proves afterwards that nothing is left; call it on "
                "the mind itself, outside transaction()"
            )
        asked_at = context.clock.now()
        async with context.write() as session:
            done = await ErasureService(session, extraction=context.extraction, digest=context.digest).erase(target)
        after = Aftermath(source, context.storage)
        objects_left = await after.objects_left(done)
        kept = await after.forget(target, done)
        left = await after.left(done)
        return ErasureReceipt(
            user_id=target.user_id,
            what=target.what,
            id=None if target.key is None else str(target.key),
            before=target.before,
            rows=done.rows,
            objects=len(done.objects) - objects_left,
            read_again=done.read_again,
            asked_at=asked_at,
            erased_at=done.at,
            checked_at=context.clock.now(),
            left=left,
            objects_left=objects_left,
            unreachable=(*kept, *after.unreachable(done)),
        )
