"""Moves changes from the outbox beside the truth to a queue that is elsewhere."""

import asyncio
import uuid

from omnimem.storage.base import ChangeQueue, Outbox

_PART = 500
"""Changes moved at once."""
_LEAD_SECONDS = 10.0
_AGAIN_SECONDS = 1.0
"""Between questions whether the one who relays is gone."""


class Relay:
    """One of those that may relay; only the one who leads does, so that a memory's changes keep their order."""

    def __init__(self, outbox: Outbox, queue: ChangeQueue) -> None:
        self._outbox = outbox
        self._queue = queue
        self._owner = uuid.uuid4().hex
        self._leads = False
        self._next_question = 0.0

    async def run_once(self) -> int:
        """Moves what is due, a part at most; returns how many. Does nothing while another leads.

        A change is forgotten once the queue has it: killed between the two, it is moved twice.
        """
        if not await self._is_leader():
            return 0
        changes = await self._outbox.due(_PART)
        if changes:
            await self._queue.record(None, changes)
            await self._outbox.forget(changes)
        return len(changes)

    async def _is_leader(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self._next_question:
            self._leads = await self._outbox.lead(self._owner, _LEAD_SECONDS)
            self._next_question = now + (_LEAD_SECONDS / 3 if self._leads else _AGAIN_SECONDS)
        return self._leads
