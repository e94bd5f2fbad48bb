"""One thread that runs the most urgent of the waiting jobs first."""

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class PriorityWorker:
    """Runs jobs one at a time, lower priority numbers first, equal ones in the order they came.

    May be used from any thread and any event loop (``asyncio.wrap_future``). A cancelled job that has not begun is
    skipped. The thread starts with the first job.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: list[tuple[int, int, Future[Any], Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def submit[T](self, priority: int, job: Callable[[], T]) -> Future[T]:
        """The job's future result. Raises ``RuntimeError`` after ``close``."""
        future: Future[T] = Future()
        with self._lock:
            # As many calls of _run_next as there are jobs: each runs whichever job is the most urgent by then.
            self._executor.submit(self._run_next)
            heapq.heappush(self._waiting, (priority, next(self._numbers), future, job))
        return future

    def _run_next(self) -> None:
        with self._lock:
            _, _, future, job = heapq.heappop(self._waiting)
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the one who waits for the job
            future.set_exception(error)
        else:
            future.set_result(result)

    def close(self) -> None:
        """Finish the jobs that were submitted and end the thread."""
        self._executor.shutdown(wait=True)
