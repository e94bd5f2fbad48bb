"""What all calls of a client work on."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

from memground.clock import Clock
from memground.embedding import EmbeddingProvider, LocalEmbedding
from memground.errors import ConfigurationError, ModelMismatchError
from memground.upkeep import Upkeep
from omnimem.operations.manager import MemoryManager
from omnimem.operations.time_travel import TimeTravel
from omnimem.pipeline.reembedding import Reembedded, Reembedding, ReembedProgress
from omnimem.pipeline.synchronizer import IndexSynchronizer
from omnimem.pipeline.worker import IndexWorker
from omnimem.search.engine import SearchEngine
from omnimem.storage.base import Storage
from omnimem.storage.factory import Settings, SyncMode, open_storage

_REEMBEDDING_POOL = 6
"""Connections that a change of model needs at least: it holds one as long as it works."""


@dataclass(frozen=True)
class Rooms:
    """What an opened client is made of."""

    storage: Storage
    embedding: EmbeddingProvider
    synchronizer: IndexSynchronizer
    manager: MemoryManager
    travel: TimeTravel
    engine: SearchEngine
    worker: IndexWorker
    works: bool
    loading: MemoryManager
    """Has the indexes follow at once, whatever the mode."""

    def wake(self) -> None:
        """Something was written that a worker may have to follow."""
        if self.works:
            self.worker.wake()


class Connection:
    """Opened once, shared by a client and all that were bound from it."""

    def __init__(
        self, settings: Settings, embedding: EmbeddingProvider | None, clock: Clock, *, background: bool
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.background = background
        self.owns_embedding = embedding is None
        self.embedding = LocalEmbedding() if embedding is None else embedding
        self._rooms: Rooms | None = None

    @property
    def rooms(self) -> Rooms:
        if self._rooms is None:
            raise ConfigurationError(
                "the client is not connected; use `async with OmniMemClient.connect(…) as client:` or "
                "`client = await OmniMemClient.connect(…)`"
            )
        return self._rooms

    @property
    def is_open(self) -> bool:
        return self._rooms is not None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Rooms]:
        """Everything opened; closed at the end of the block."""
        if isinstance(self.embedding, LocalEmbedding):
            self.embedding.ensure_installed()
        settings, embedding = self.settings, self.embedding
        try:
            async with open_storage(settings, dims=embedding.dims, model_id=embedding.model_id) as storage:
                self._rooms = rooms = self._built(storage)
                if rooms.works:
                    rooms.worker.start()
                try:
                    async with Upkeep(storage.tend) if self.background else nullcontext():
                        yield rooms
                finally:
                    self._rooms = None
                    await rooms.worker.stop()
        finally:
            if self.owns_embedding:
                await embedding.close()

    async def reembed(self, progress: ReembedProgress | None, *, abandon: bool) -> Reembedded:
        """Changes what is stored to this connection's model, or gives that up. The connection need not be open."""
        embedding = self.embedding
        if isinstance(embedding, LocalEmbedding) and not abandon:
            embedding.ensure_installed()
        settings = replace(self.settings, pool_size=max(_REEMBEDDING_POOL, self.settings.pool_size))
        async with AsyncExitStack() as opened:
            try:
                storage = await opened.enter_async_context(
                    open_storage(settings, dims=embedding.dims, model_id=embedding.model_id)
                )
            except ModelMismatchError as error:
                if error.model_id is None or error.dims is None:
                    raise
                storage = await opened.enter_async_context(
                    open_storage(settings, dims=error.dims, model_id=error.model_id)
                )
            work = Reembedding(storage, embedding, progress)
            return await work.abandon() if abandon else await work.run()

    def _built(self, storage: Storage) -> Rooms:
        mode = "inline" if self.settings.sync is SyncMode.INLINE else "async"
        synchronizer = IndexSynchronizer(storage, self.embedding, mode)
        manager = MemoryManager(storage.records, synchronizer, self.clock)
        return Rooms(
            storage=storage,
            embedding=self.embedding,
            synchronizer=synchronizer,
            manager=manager,
            travel=TimeTravel(storage.records, manager, self.clock),
            engine=SearchEngine(storage, self.embedding, self.clock, deadline=self.settings.search_deadline),
            worker=IndexWorker(storage, self.embedding, self.settings.jobs),
            # Elsewhere an inline write may leave a change to a worker too: when an index could not be reached.
            works=self.background and (mode == "async" or storage.outbox is not None),
            loading=MemoryManager(storage.records, IndexSynchronizer(storage, self.embedding, "inline"), self.clock),
        )
