"""What failed: the retries that wait, and the dead letters, as their topics have them.

In both topics the last message of a key is what holds, and one without a value says that nothing does. Reading a topic
to its end gives the same answer in every process, whoever works and whoever does not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from omnimem.storage.base import Change
from omnimem.storage.kafka.cluster import Place
from omnimem.storage.kafka.messages import Seen, Trial, read_change, read_trial
from omnimem.storage.kafka.reader import Reader, place_of


@dataclass(frozen=True)
class Failure:
    """A change that failed, when it was recorded (ns), and how it was tried; `key` and `partition` name its message."""

    key: bytes
    partition: int
    change: Change
    recorded: int
    trial: Trial


@dataclass(frozen=True)
class Summary:
    """How many there are, since when the oldest waits, and the last error with its moment."""

    count: int = 0
    oldest: datetime | None = None
    last_error: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """Where a message that holds lies, and when it was written (ms) and its change recorded (ns)."""

    place: Place
    offset: int
    written: int
    recorded: int


class Failures:
    """Reads a topic of failures. What was read is remembered until the topic goes on."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._asked: object = None
        self._known = Summary()

    async def summary(self, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> Summary:
        """The sum of what holds between these offsets."""
        asked = (tuple(sorted(starts.items())), tuple(sorted(ends.items())))
        if self._asked != asked:
            self._known = await self._summed(starts, ends)
            self._asked = asked
        return self._known

    async def read(
        self,
        starts: Mapping[Place, int],
        ends: Mapping[Place, int],
        limit: int,
        *,
        latest: bool = False,
        but: Collection[bytes] = (),
    ) -> list[Failure]:
        """What holds between these offsets but for some keys, up to `limit`, in the order in which it failed, or the
        other way round (`latest`)."""
        held = [(key, at) for key, at in (await self._holding(starts, ends)).items() if key not in but]
        held.sort(key=lambda item: (item[1].written, item[1].offset), reverse=latest)
        wanted = dict(held[:limit])
        return await self._found(wanted, starts, ends) if wanted else []

    async def _holding(self, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[bytes, _Held]:
        """What holds, by key: only where it lies, because there may be much."""
        held: dict[bytes, _Held] = {}

        def visit(message: Seen) -> None:
            if (key := message.key()) is None:
                return
            held.pop(key, None)
            try:
                _, recorded = read_change(message.value() or b"")
            except ValueError:
                return  # the end of the key, or nothing of ours
            held[key] = _Held(place_of(message), cast("int", message.offset()), message.timestamp()[1], recorded)

        await self._reader.read(starts, ends, visit)
        return held

    async def _found(
        self, wanted: Mapping[bytes, _Held], starts: Mapping[Place, int], ends: Mapping[Place, int]
    ) -> list[Failure]:
        found: dict[bytes, Failure] = {}

        def visit(message: Seen) -> None:
            key = message.key() or b""
            at = wanted.get(key)
            if at is not None and (at.place, at.offset) == (place_of(message), message.offset()):
                change, recorded = read_change(message.value() or b"")
                found[key] = Failure(key, at.place[1], change, recorded, read_trial(message))

        await self._reader.read(starts, ends, visit)
        return [found[key] for key in wanted if key in found]

    async def _summed(self, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> Summary:
        held = await self._holding(starts, ends)
        if not held:
            return Summary()
        key, newest = max(held.items(), key=lambda item: item[1].written)
        only = await self._found({key: newest}, {newest.place: newest.offset}, {newest.place: newest.offset + 1})
        error = (only[0].trial.failed_at, only[0].trial.error) if only and only[0].trial.error else None
        return Summary(len(held), _moment(min(at.recorded for at in held.values())), error)


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
