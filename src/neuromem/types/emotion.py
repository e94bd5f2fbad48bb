"""What a user felt: now, lately and over time, as their memories say it. Never personality, never values."""

from dataclasses import dataclass
from datetime import datetime

from neuromem.types.values import Source, Value


@dataclass(frozen=True, slots=True)
class DominantEmotion(Value):
    """A word for what was felt, in lower case; how many memories it stands in, and which share of those with a word."""

    label: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class EmotionTrigger(Value):
    """What stirs an emotion, in words, and which one."""

    trigger: str
    emotion: str | None = None


@dataclass(frozen=True, slots=True)
class EmotionProfile(Value):
    """How a user has felt lately and over time. Valence: −1 (bad) to 1 (good); arousal: 0 (calm) to 1.

    Lately is the last 14 days by the time memories are about (`event_at`): `latest_state_valence`,
    `latest_state_arousal`, means over `recent` memories; None where there are none. Over time: `valence_avg`,
    `arousal_avg`, means over all `annotated` memories, and `dominant_emotions`, the most frequent first. Numbers are
    counted anew from the memories known, at any moment.

    `latest_state` and `emotion_triggers` are words, those of the last digest that had something to read about
    emotions, made at `latest_state_updated_at` from the memories `sources`.
    """

    user_id: str
    latest_state: str | None
    latest_state_valence: float | None
    latest_state_arousal: float | None
    latest_state_updated_at: datetime | None
    valence_avg: float | None
    arousal_avg: float | None
    dominant_emotions: tuple[DominantEmotion, ...]
    emotion_triggers: tuple[EmotionTrigger, ...]
    annotated: int
    recent: int
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class EmotionPeriod(Value):
    """What was felt in a day, week, month or year, [start, end) in UTC: means over `count` memories."""

    start: datetime
    end: datetime
    valence: float
    arousal: float
    count: int
