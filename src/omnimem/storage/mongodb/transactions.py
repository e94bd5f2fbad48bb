"""Transactions: run again where others were in the way, committed once, in turn where many want one memory."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from contextvars import Context
from typing import Any, Protocol
from weakref import WeakValueDictionary

from pymongo import timeout
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConnectionFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from memground.errors import UnavailableError
from omnimem.storage.base import Work
from omnimem.storage.mongodb.errors import TRANSIENT, UNKNOWN, PassingConflict, redact, translated

_SNAPSHOT, _MAJORITY = ReadConcern("snapshot"), WriteConcern("majority")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5
_ORPHAN_TRIES, _ORPHAN_PAUSE = 60, 1.0
_ABORT_SECONDS = 2.0
"""A server that does not hear of it aborts by itself, after a minute at most."""


class MongoWork(Work):
    """A transaction, or a read-only session that sees one moment."""

    def __init__(self, session: AsyncClientSession, place: str, line: "Line") -> None:
        self.session = session
        self.place = place
        self._line = line
        self._turns: set[str] = set()
        self.wanted: set[str] = set()

    def want(self, keys: Iterable[str]) -> None:
        """Says what this transaction is about to change.

        Raises PassingConflict where others stand in line for it: the transaction then runs again when it is its turn.
        """
        self.wanted.update(keys)
        if ahead := self._line.crowded(self.wanted - self._turns):
            raise PassingConflict(f"others are changing {ahead!r}")

    def has_turns(self, keys: Iterable[str]) -> None:
        self._turns.update(keys)


class Line:
    """Where transactions of this process wait for their turn at a memory, each behind the one before it.

    Who meets nobody does not wait. Without it, of many that want the same memory one would succeed and all others run
    for nothing, over and over.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def crowded(self, keys: Iterable[str]) -> str | None:
        """One of the keys that somebody waits for or has the turn at."""
        return next((key for key in keys if (lock := self._locks.get(key)) and lock.locked()), None)

    async def enter(self, stack: AsyncExitStack, keys: Iterable[str]) -> None:
        """Waits for the turn at each key; in one order, so that no two wait for each other."""
        locks = [self._locks.setdefault(key, asyncio.Lock()) for key in sorted(keys)]
        for lock in locks:
            await stack.enter_async_context(lock)


class Sessions(Protocol):
    """Where transactions get their sessions."""

    def open(self) -> AsyncClientSession:
        """A causally consistent one, not before what this client wrote."""
        ...

    def committed(self, session: AsyncClientSession) -> None:
        """Its transaction was acknowledged."""
        ...

    async def kill(self, ids: Sequence[Any]) -> None:
        """Ends the transactions of sessions."""
        ...


class Orphans:
    """Sessions of transactions the server may still have open, though nobody will end them: it is told to, when it can
    be. Until then they hold what they wrote to; by itself it would end them after a minute."""

    def __init__(self, kill: Callable[[Sequence[Any]], Awaitable[None]]) -> None:
        self._kill = kill
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, session: AsyncClientSession) -> None:
        """The driver uses no session again whose connection broke, so that nothing else is ended."""
        # Without this context: its time is over.
        task = asyncio.create_task(self._end(session.session_id), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, session_id: Any) -> None:
        for _ in range(_ORPHAN_TRIES):
            with suppress(PyMongoError):
                await self._kill([session_id])
                return
            await asyncio.sleep(_ORPHAN_PAUSE)


def _lost_connection(error: BaseException) -> bool:
    cause = error.__cause__ or error
    return isinstance(cause, ConnectionFailure) or (isinstance(cause, PyMongoError) and cause.timeout)


class Transactions:
    """Runs bodies in transactions against one deployment.

    `patience`: seconds after which a body is not run again.
    """

    def __init__(self, sessions: Sessions, url: str, place: str, patience: float) -> None:
        self._sessions = sessions
        self._url = url
        self._place = place
        self._patience = patience
        self._line = Line()
        self._orphans = Orphans(sessions.kill)

    async def close(self) -> None:
        await self._orphans.close()

    def work(self, session: AsyncClientSession) -> MongoWork:
        return MongoWork(session, self._place, self._line)

    async def run[T](self, body: Callable[[Work], Awaitable[T]]) -> T:
        """What `body` returns, once its transaction is committed.

        It is run again only where the server says, or nobody can have, that the one before left nothing. Raises
        UnavailableError where it is not known whether a commit took place, and after `patience` seconds.
        """
        with timeout(self._patience):
            return await self._until_done(body, asyncio.get_running_loop().time() + self._patience)

    async def _until_done[T](self, body: Callable[[Work], Awaitable[T]], deadline: float) -> T:
        wanted: set[str] = set()
        pause = 0.0
        while True:
            try:
                async with AsyncExitStack() as stack:
                    await self._line.enter(stack, wanted)
                    return await self._once(body, wanted, deadline)
            except PassingConflict as conflict:
                if asyncio.get_running_loop().time() + pause > deadline:
                    raise UnavailableError(
                        f"nothing was written: for {self._patience:g} s others were in the way or the server away; "
                        f"the last time: {conflict}"
                    ) from conflict
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(max(_FIRST_PAUSE, pause * 2), _LONGEST_PAUSE)

    async def _once[T](self, body: Callable[[Work], Awaitable[T]], wanted: set[str], deadline: float) -> T:
        async with self._sessions.open() as session:
            work = self.work(session)
            work.has_turns(wanted)
            await session.start_transaction(read_concern=_SNAPSHOT, write_concern=_MAJORITY)
            try:
                result = await body(work)
            except BaseException as error:
                with timeout(_ABORT_SECONDS):
                    await session.abort_transaction()  # ignores what the server or the connection says
                if _lost_connection(error):
                    self._orphans.add(session)
                raise
            finally:
                wanted |= work.wanted
            await self._commit(session, deadline)
            self._sessions.committed(session)
            return result

    async def _commit(self, session: AsyncClientSession, deadline: float) -> None:
        """Commits. Asked again with the same number, the server commits once and says what became of it."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await session.commit_transaction()
                return
            except PyMongoError as error:
                if error.has_error_label(TRANSIENT) or not error.has_error_label(UNKNOWN):
                    raise translated(error, self._url) from error
                if asyncio.get_running_loop().time() + pause > deadline:
                    self._orphans.add(session)
                    raise UnavailableError(
                        f"MongoDB at {redact(self._url)} did not say whether the write was kept: read it again before "
                        f"writing it again ({type(error).__name__})"
                    ) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)
