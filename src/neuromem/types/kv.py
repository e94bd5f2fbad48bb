"""Values under keys; the profile is a namespace of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from neuromem.types.values import Value

PROFILE_NAMESPACE = "profile"


@dataclass(frozen=True, slots=True)
class KeyValue(Value):
    """A value under a key. In `list` and `history`."""

    namespace: str
    scope_id: str
    key: str
    value: Any
    version: int
    known_from: datetime
    known_to: datetime | None
    origin: str
    created_at: datetime
    updated_at: datetime
