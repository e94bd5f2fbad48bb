"""What an extraction did, and how far extraction is."""

from dataclasses import dataclass
from datetime import datetime

from neuromem.extraction.items import Dropped
from neuromem.types import StoredTriples, Value

NOTHING_STORED = StoredTriples((), (), (), ())


@dataclass(frozen=True, slots=True)
class ExtractionResult(Value):
    """What one extraction changed. Pass `origin` to `undo` to take it back.

    Ids of memories: `added` are new, `enriched` were known with less detail, `restated` were known and got a source
    more. `profile`: the keys that were set or ended. `triples`: what became of the relations. `dropped`: how many items
    of a kind were not kept, and why.
    """

    origin: str
    at: datetime
    added: tuple[str, ...] = ()
    enriched: tuple[str, ...] = ()
    restated: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    triples: StoredTriples = NOTHING_STORED
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True, slots=True)
class ExtractionFailure(Value):
    """Turns that could not be extracted: the last error, after how many tries, since when.

    `message_ids` is empty where it was no fault of single turns (the model could not be reached): then all turns of the
    session that wait are meant.
    """

    session_id: str
    message_ids: tuple[str, ...]
    error: str
    tries: int
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class ExtractionStatus(Value):
    """How far a user's messages are extracted.

    Of the messages, `extracted` were read by the language model, `failed` could not be, `pending` were not yet. `due`:
    when the next ones will be, None where nothing is planned (no language model, or `auto_extract=False`).
    """

    user_id: str
    extracted: int
    pending: int
    failed: int
    due: datetime | None
    failures: tuple[ExtractionFailure, ...]
