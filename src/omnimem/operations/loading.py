"""Loader: stores very many memories, quicker than one call after the other would."""

import asyncio
import logging
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from memground.errors import InvalidInputError, UnavailableError
from memground.text import show
from omnimem.operations.manager import Turn
from omnimem.storage.base import BuildProgress, KeywordIndex, Storage, VectorIndex

_log = logging.getLogger("omnimem.loading")

PART = 500
"""Memories stored in one transaction."""
_AT_ONCE = 2
"""Parts under way: while the server stores one, this program makes the next."""
STORED = "memories"
"""The step that progress is told of while memories are stored."""

type Store[T] = Callable[[Sequence[T], Turn], Coroutine[Any, Any, object]]
"""Stores a part in its turn: commits only after the part before it is stored."""


class Loader:
    """One load. The indexes are built at its end where little was there before; see `Index.put_off`."""

    def __init__(self, storage: Storage, progress: BuildProgress | None = None) -> None:
        if progress is not None and not callable(progress):
            raise InvalidInputError(f"progress must be callable, got {show(progress)}")
        self._storage = storage
        self._progress = progress

    @asynccontextmanager
    async def indexes_built_after(self) -> AsyncGenerator[None]:
        """Builds the indexes when the block ends, also by an error; not when it is cancelled: then whoever repairs or
        loads next does."""
        try:
            for index in self._indexes:
                with self._missing_one_elsewhere():
                    await index.put_off()
            yield
        except Exception:
            try:
                await self._build()
            except Exception as error:  # noqa: BLE001 - the first error is the one to be told
                _log.warning("the indexes are not built after a load that failed; `repair` builds them: %s", error)
            raise
        await self._build()

    async def run[T](self, parts: AsyncIterable[Sequence[T]], store: Store[T]) -> int:
        """Has parts stored in their order, each whole or not at all; returns how many items that were.

        Progress is told how many from the first one on are stored. What is behind a part that failed is not stored.
        """
        under_way: deque[tuple[int, asyncio.Task[object]]] = deque()
        done = 0
        turn: Turn | None = None

        async def first() -> None:
            nonlocal done
            count, task = under_way[0]
            await task
            under_way.popleft()
            done += count
            if self._progress is not None:
                self._progress(STORED, done, None)

        try:
            async for part in parts:
                if len(under_way) == _AT_ONCE:
                    await first()
                turn = Turn(turn)
                under_way.append((len(part), turn.run(store(part, turn))))
            while under_way:
                await first()
        except Exception:
            with suppress(Exception):  # the first error is the one to be told
                while under_way:
                    await first()
            raise
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)
        return done

    async def _build(self) -> None:
        for index in self._indexes:
            with self._missing_one_elsewhere():
                await index.build(self._progress)

    @property
    def _indexes(self) -> tuple[VectorIndex, KeywordIndex]:
        return self._storage.vectors, self._storage.keywords

    @contextmanager
    def _missing_one_elsewhere(self) -> Generator[None]:
        """An index that is elsewhere, and away, keeps nobody from storing memories: a worker has it follow."""
        try:
            yield
        except UnavailableError as error:
            if self._storage.outbox is None:
                raise
            _log.warning("an index cannot be made ready for searches now; `repair` does it later: %s", error)


async def parted[T](items: AsyncIterable[T], size: int = PART) -> AsyncGenerator[list[T]]:
    """The items in lists of `size`."""
    part: list[T] = []
    async for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def numbered[T](given: Iterable[T] | AsyncIterable[T], what: str) -> AsyncGenerator[tuple[int, T]]:
    """(position from 0, item), whichever way the items come. Raises InvalidInputError where they are none."""
    value: object = given  # a text is walked by characters, a mapping by keys; neither is meant
    if isinstance(value, str | bytes | Mapping) or not isinstance(
        value,
        Iterable | AsyncIterable,  # pyright: ignore[reportUnnecessaryIsInstance]
    ):
        raise InvalidInputError(f"{what} must be an iterable, got {type(given).__name__} {show(given)}")
    return _numbered(given)


async def _numbered[T](items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[tuple[int, T]]:
    position = 0
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield position, item
            position += 1
    else:
        for position, item in enumerate(items):
            yield position, item
