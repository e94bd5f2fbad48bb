"""Locks between processes that die with their holders, and a limit on waiting for them."""

import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from memground.errors import UnavailableError
from memground.postgres._host import Account

_POLL = 0.01  # seconds


class Cancelled(Exception):
    """The caller no longer wants what a `Patience` waits for."""


class Patience:
    """A limit on waiting, in seconds, which another thread may cut short."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._cancelled = threading.Event()

    @property
    def remaining(self) -> float:
        return max(0.0, self._until - time.monotonic())

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    def pause(self, waiting_for: str) -> None:
        """Sleep a moment. Raises `UnavailableError` at the limit, `Cancelled` after `cancel`."""
        if self._cancelled.wait(_POLL):
            raise Cancelled
        if not self.remaining:
            raise UnavailableError(f"gave up waiting for {waiting_for}; trying again, or a longer timeout, may work")


class FileLock:
    """An advisory lock on a file. Descriptors are not inherited unless handed down by name."""

    def __init__(self, path: Path, account: Account) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        account.own(self.fd)

    def attempt(self, kind: int) -> bool:
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_current(self) -> bool:
        """Whether the file is still the one at its path: a folder may be deleted under its users."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self.fd), self.path.stat())
        return False

    def release(self) -> None:
        """Unlock for every holder of this descriptor (a forked child has it too) and close it."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)

    def close(self) -> None:
        """Close the descriptor only: whom it was handed to keeps the lock."""
        os.close(self.fd)
