"""Messages and the sessions they lie in."""

from dataclasses import dataclass
from datetime import datetime

from neuromem.types.values import Metadata, Value

DEFAULT_SESSION = "default"


@dataclass(frozen=True, slots=True)
class NewMessage(Value):
    """A message to be ingested; the fields mean what `ingest` says of them."""

    role: str
    content: str
    timestamp: datetime | None = None
    external_id: str | None = None
    speaker: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Message(Value):
    """One turn of a conversation. `timestamp` is when it was said, `seq` its place in the session, from 1."""

    message_id: str
    user_id: str
    session_id: str
    seq: int
    role: str
    speaker: str | None
    content: str
    metadata: Metadata
    external_id: str | None
    timestamp: datetime
    extracted: bool
    known_from: datetime
    known_to: datetime | None
    recorded_at: datetime
    origin: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session(Value):
    """A conversation as a view sees it: how many messages, first and last time."""

    session_id: str
    user_id: str
    message_count: int
    first_message_at: datetime
    last_message_at: datetime
    closed_at: datetime | None = None
