"""How far the work on a partition got."""

from collections.abc import Container


class Part:
    """A partition while it is assigned to this worker.

    Offsets are handed out in order and done in any; what may be committed is the watermark, below which all are done.
    """

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.held = True
        """Whether it is still this worker's."""
        self.position: int | None = None
        """The next offset to come; None until something is known."""
        self.committed: int | None = None
        self._open: dict[int, None] = {}  # in the order of offsets, because they come so

    def came(self, offset: int) -> None:
        """A message that has to be worked on came."""
        self._open[offset] = None
        self.passed(offset + 1)

    def passed(self, position: int) -> None:
        """All below a position came, or there is nothing there."""
        self.position = max(position, self.position or 0)

    def done(self, offset: int) -> None:
        """A message needs no more work."""
        self._open.pop(offset, None)

    @property
    def open(self) -> int:
        """How many messages came and are not done."""
        return len(self._open)

    def watermark(self, besides: Container[int] = ()) -> int | None:
        """The offset to commit once `besides` are done as well: of the first message that is not."""
        return next((offset for offset in self._open if offset not in besides), self.position)
