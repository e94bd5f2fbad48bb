"""What a program found out about its database and may go on believing for a while."""

import asyncio
from collections.abc import Hashable
from typing import Any


class Hints:
    """What was found out and holds for a minute. It may change what a read costs, never what it answers."""

    _SECONDS, _MOST = 60.0, 10_000

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable) -> Any:
        """What was noted in the last minute, or None."""
        until, value = self._known.get(key, (0.0, None))
        return value if until > asyncio.get_running_loop().time() else None

    def note(self, key: Hashable, value: Any) -> None:
        if len(self._known) >= self._MOST:
            self.clear()
        self._known[key] = asyncio.get_running_loop().time() + self._SECONDS, value

    def clear(self) -> None:
        self._known.clear()
