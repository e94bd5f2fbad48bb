"""What an extraction finds, what it did, and how far extraction is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from neuromem.types.graph import StoredTriples
from neuromem.types.values import Value

type ItemKind = Literal["fact", "episode", "triple", "profile", "insight", "emotion"]
type Reason = Literal["unusable", "unsure", "personality", "values", "too many", "no graph"]
NOTHING_STORED = StoredTriples((), (), (), ())


@dataclass(frozen=True, slots=True)
class Emotion(Value):
    """What was felt: `valence` from −1 (bad) to 1 (good), `arousal` from 0 (calm) to 1, a word for it."""

    valence: float
    arousal: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Fact(Value):
    """Something true of the user or their world, as an extraction found it.

    `category`: a free word ("work", "family", …). `confidence`: 0 to 1. `importance`: 1 to 10. True in the world during
    [valid_from, valid_to). `entities`: the names it speaks of.
    """

    content: str
    category: str = "general"
    confidence: float = 1.0
    importance: int | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    emotion: Emotion | None = None
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Episode(Value):
    """Something that happened, at `happened_at` where that is known; the rest as in `Fact`."""

    content: str
    category: str = "general"
    confidence: float = 1.0
    importance: int | None = None
    happened_at: datetime | None = None
    emotion: Emotion | None = None
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Triple(Value):
    """How two entities relate: Anna (person) lives_in Porto (place), during [valid_from, valid_to)."""

    subject: str
    relation: str
    object: str
    subject_type: str = "entity"
    object_type: str = "entity"
    confidence: float = 1.0
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Dropped(Value):
    """How many items of a kind were not kept, and why. What they said is not repeated."""

    kind: ItemKind
    reason: Reason
    count: int


@dataclass(frozen=True, slots=True)
class ExtractionResult(Value):
    """What one extraction changed. Pass `origin` to `undo` to take it back.

    Ids of memories: `added` are new, `enriched` were known with less detail, `restated` were known and got a source
    more, `ended` said just what a relation said that has ended. `profile`: the keys that were set or ended. `triples`:
    what became of the relations. `dropped`: how many items of a kind were not kept, and why.
    """

    origin: str
    at: datetime
    added: tuple[str, ...] = ()
    enriched: tuple[str, ...] = ()
    restated: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    triples: StoredTriples = NOTHING_STORED
    dropped: tuple[Dropped, ...] = ()

    @property
    def news(self) -> int:
        """How many memories say something now that they did not."""
        return len({*self.added, *self.enriched, *self.ended})


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
