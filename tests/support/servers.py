"""Servers that all processes of a test run share."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self, cast

from dev.servers.server import Server
from dev.servers.shared import shared


class SharedServers:
    """Holds servers until it is left; they end when no process holds them any more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._held: dict[type[Server], Server] = {}

    def start(self, kinds: Sequence[type[Server]]) -> None:
        with ThreadPoolExecutor(len(kinds) or 1) as pool:
            list(pool.map(self.get, kinds))

    def get[S: Server](self, kind: type[S]) -> S:
        if kind not in self._held:
            self._held[kind] = self._stack.enter_context(shared(kind, self._folder))
        return cast("S", self._held[kind])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
