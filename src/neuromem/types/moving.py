"""What moving a user from one database to another did."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from neuromem.types.values import Value


@dataclass(frozen=True, slots=True)
class ImportedUser(Value):
    """What an import put there.

    `exported_from`: the user's id in the export, made at `exported_at`. `rows`: how many of each table, all versions
    counted. `objects`: files whose bytes came along. `embedded`: texts of memories whose vectors had to be made anew.
    `waiting`: messages whose vectors are being made in the background. `unextracted`: turns from which nothing was
    extracted yet (`nm.extract(user_id)` has it done).
    """

    user_id: str
    exported_from: str
    exported_at: datetime
    rows: Mapping[str, int]
    objects: int
    embedded: int
    waiting: int
    unextracted: int
