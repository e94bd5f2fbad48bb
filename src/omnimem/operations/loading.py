"""Loader: stores very many memories, quicker than one call after the other would."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from omnimem.storage.base import BuildProgress, Storage

PART = 500
"""Memories stored in one transaction."""
_AT_ONCE = 2
"""Parts under way: while the server stores one, this program makes the next."""
STORED = "memories"
"""The step that progress is told of while memories are stored."""

type Store[T] = Callable[[Sequence[T], asyncio.Task[object] | None], Coroutine[Any, Any, object]]
"""Stores a part, and commits only after the part before it is stored."""


class Loader:
    """One load. The indexes are built at its end where little was there before; see `Index.put_off`."""

    def __init__(self, storage: Storage, progress: BuildProgress | None = None) -> None:
        self._storage = storage
        self._progress = progress

    @asynccontextmanager
    async def indexes_built_after(self) -> AsyncGenerator[None]:
        """Builds the indexes when the block ends, also by an error; not when it is cancelled: then whoever repairs or
        loads next does."""
        indexes = (self._storage.vectors, self._storage.keywords)
        for index in indexes:
            await index.put_off()
        try:
            yield
        except Exception:
            await self._build()
            raise
        await self._build()

    async def run[T](self, parts: AsyncIterable[Sequence[T]], store: Store[T]) -> int:
        """Has parts stored in their order, each whole or not at all; returns how many items that were.

        Progress is told how many from the first one on are stored. What is behind a part that failed is not stored.
        """
        under_way: deque[tuple[int, asyncio.Task[object]]] = deque()
        done = 0

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
                before = under_way[-1][1] if under_way else None
                if len(under_way) == _AT_ONCE:
                    await first()
                under_way.append((len(part), asyncio.create_task(store(part, before))))
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
        for index in (self._storage.vectors, self._storage.keywords):
            await index.build(self._progress)


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


async def numbered[T](items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[tuple[int, T]]:
    """(position from 0, item), whichever way the items come."""
    position = 0
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield position, item
            position += 1
    else:
        for position, item in enumerate(items):
            yield position, item
