"""What erasing removed, or would remove."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from neuromem.types.values import Value

type Erased = Literal["user", "memory", "message", "document", "history"]


@dataclass(frozen=True, slots=True)
class ErasurePreview(Value):
    """What erasing would remove now, if nobody wrote in between.

    `what` and `id`: all of the `user`, or the `memory`, `message` or `document` of that id with everything derived from
    it, or the `history` before `before`. `rows`: by table, all versions counted. `objects`: stored files. `read_again`:
    messages that stay, of which something goes because the erased thing had a part in it: they are extracted anew.
    """

    user_id: str
    what: Erased
    id: str | None
    before: datetime | None
    rows: Mapping[str, int]
    objects: int = 0
    read_again: int = 0

    @property
    def total(self) -> int:
        """All rows together."""
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class ErasureReceipt(Value):
    """What was erased, when, and the proof.

    The fields of the preview say what was removed. `left`: what was counted afterwards, by table, of what was to go;
    `objects_left`: stored files that could not be removed yet, of which a job sees to it. Both are nothing when all is
    done (`complete`). `asked_at`, `erased_at` (of the transaction), `checked_at` (of the count) by the mind's clock.
    `unreachable`: where bytes may remain that no statement reaches, and what to do about it.
    """

    user_id: str
    what: Erased
    id: str | None
    before: datetime | None
    rows: Mapping[str, int]
    objects: int
    read_again: int
    asked_at: datetime
    erased_at: datetime
    checked_at: datetime
    left: Mapping[str, int]
    objects_left: int
    unreachable: tuple[str, ...]

    @property
    def total(self) -> int:
        """All rows together."""
        return sum(self.rows.values())

    @property
    def complete(self) -> bool:
        """Whether nothing of it is left."""
        return not any(self.left.values()) and not self.objects_left
