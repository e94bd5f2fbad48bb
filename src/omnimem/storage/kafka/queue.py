"""Changes in Kafka: three topics and a consumer group.

`PREFIX.changes` has every change, keyed by its memory. Workers are members of one group; offsets are committed when all
below them is done. What failed goes to `PREFIX.retries`, from there to `PREFIX.dead-letters`, and back by
`retry_failed`. docs/omnimem/STORAGE_KAFKA.md tells it whole.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from memground.clock import SystemClock
from memground.jobs import JobPolicy, QueueStatus
from omnimem.storage.base import Capabilities, Change, ChangeQueue, Claim, FailedChange, Work
from omnimem.storage.kafka.cluster import Cluster, Offsets, Place, below
from omnimem.storage.kafka.failures import Failure, Failures
from omnimem.storage.kafka.member import Entry, Member
from omnimem.storage.kafka.messages import Outgoing, Seen, Stamps, Trial, change_key, change_value
from omnimem.storage.kafka.publisher import Mover, Publisher
from omnimem.storage.kafka.reader import Reader, place_of
from omnimem.storage.settings.kafka import KafkaSettings

_REPLAYED_AT_ONCE = 1_000
_CLOSING = 5.0
"""Seconds a client may take to say goodbye; a broker that is away must not keep a program from ending."""


class _Held:
    """What a claim holds: its entries by change, and until when unless it is extended."""

    def __init__(self, entries: Iterable[Entry], until: float) -> None:
        self.until = until
        self.entries: dict[Change, list[Entry]] = {}
        for entry in entries:
            self.entries.setdefault(entry.change, []).append(entry)

    def pop(self, changes: Iterable[Change]) -> dict[Change, list[Entry]]:
        """The entries of changes that are still this worker's; they are held no longer."""
        popped = {change: self.entries.pop(change) for change in dict.fromkeys(changes) if change in self.entries}
        ours = {change: [entry for entry in entries if entry.part.held] for change, entries in popped.items()}
        return {change: entries for change, entries in ours.items() if entries}


class KafkaQueue(ChangeQueue):
    """Changes in Kafka, of one program. Nothing is opened before it is used."""

    def __init__(self, settings: KafkaSettings, policy: JobPolicy) -> None:
        self._settings = settings
        self._policy = policy
        self._cluster = Cluster(settings)
        self._publisher = Publisher(self._cluster)
        self._member = Member(self._cluster, policy)
        self._reader = Reader(self._cluster)
        self._retries = Failures(self._reader)
        self._dead = Failures(self._reader)
        self._stamps = Stamps()
        self._claims: set[_Held] = set()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(f"kafka:{self._settings.servers}/{self._settings.prefix}", filters=False, as_of=False)

    async def close(self) -> None:
        """Leaves the group, which gives what was claimed to others; ends threads and connections."""
        for claim in list(self._claims):
            self._give_back(claim)
        for part in (self._member, self._reader, self._publisher):
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await part.close()
        await self._cluster.close()

    # ---------------------------------------------------------------- recording

    async def record(self, work: Work | None, changes: Sequence[Change]) -> None:
        topic = self._settings.changes_topic
        await self._publisher.publish(
            [
                Outgoing(topic, change.memory_id.encode(), change_value(change, self._stamps.next()))
                for change in changes
            ]
        )

    # ---------------------------------------------------------------- working off

    async def claim(self, *, wait: float = 0.0) -> Claim:
        now = time.monotonic()
        for claim in [claim for claim in self._claims if claim.until < now]:
            self._give_back(claim)
        await self._member.gather(self._policy.batch, wait)
        held = _Held(self._member.take(self._policy.batch), time.monotonic() + self._policy.lease)
        if held.entries:
            self._claims.add(held)
        return Claim(list(held.entries), held)

    async def extend(self, claim: Claim) -> None:
        held = _held(claim)
        if held in self._claims:
            held.until = time.monotonic() + self._policy.lease
        await self._member.stay()

    async def finish(self, work: Work | None, claim: Claim, changes: Sequence[Change]) -> list[Change]:
        held = self._popped(claim, changes)
        entries = [entry for found in held.values() for entry in found]
        ends = [Outgoing(e.part.topic, e.key, None, partition=e.part.number) for e in entries if e.key is not None]
        try:
            await self._publisher.publish(ends)
            await self._member.done(entries)
        except BaseException:
            self._put_back(claim, held)
            raise
        return [change for change in changes if change in held]

    async def fail(self, claim: Claim, changes: Sequence[Change], error: str) -> None:
        held = self._popped(claim, changes)
        entries = [entry for found in held.values() for entry in found]
        # What replaces a message is published first: whatever stops us in between, it lies in one place or in two.
        moved = [self._failed(found, error) for found in held.values()]
        gone = [
            Outgoing(e.part.topic, e.key, None, partition=e.part.number)
            for e in entries
            if e.key is not None and e.attempts + 1 >= self._policy.attempts
        ]
        try:
            await self._publisher.publish(moved)
            await self._publisher.publish(gone)
            await self._member.done(entries)
        except BaseException:
            self._put_back(claim, held)
            raise

    async def release(self, claim: Claim) -> None:
        self._give_back(_held(claim))

    # ---------------------------------------------------------------- looking

    async def status(self) -> QueueStatus:
        # The group's offsets first: what moves on while we ask is then counted twice rather than not at all.
        starts, ends = await self._span()
        s = self._settings
        lags = _of(s.changes_topic, starts), _of(s.changes_topic, ends)
        retries = await self._retries.summary(_of(s.retries_topic, starts), _of(s.retries_topic, ends))
        dead = await self._dead.summary(_of(s.dead_letters_topic, starts), _of(s.dead_letters_topic, ends))
        since = [moment for moment in (await self._oldest(*lags), retries.oldest) if moment is not None]
        errors = [error for error in (retries.last_error, dead.last_error) if error is not None]
        return QueueStatus(
            waiting=below(*lags) + retries.count,
            failed=dead.count,
            oldest=min(since, default=None),
            last_error=max(errors)[1] if errors else None,
            parts={
                f"{topic}/{number}": max(0, end - lags[0][topic, number]) for (topic, number), end in lags[1].items()
            }
            | {s.retries_topic: retries.count},
        )

    async def failed(self, limit: int) -> list[FailedChange]:
        starts, ends = await self._dead_letters()
        return [
            FailedChange(found.change, found.trial.attempts, found.trial.error, found.trial.failed_at)
            for found in await self._dead.read(starts, ends, limit, latest=True)
        ]

    async def retry_failed(self) -> int:
        mover, moved = Mover(self._cluster), set[bytes]()
        await self._cluster.prepare()
        try:
            await mover.begin()  # from here on nobody else replays, so that each is replayed once
            starts, ends = await self._dead_letters()
            while part := await self._dead.read(starts, ends, _REPLAYED_AT_ONCE, but=moved):
                await mover.move([message for found in part for message in self._replay(found)])
                moved |= {found.key for found in part}
        finally:
            await mover.close()
        if moved:
            await self._cluster.visible()
        return len(moved)

    def _replay(self, found: Failure) -> list[Outgoing]:
        s = self._settings
        value, headers = change_value(found.change, found.recorded), Trial(0, 0.0, SystemClock().now(), "").headers()
        return [
            Outgoing(s.retries_topic, found.key, value, headers),
            Outgoing(s.dead_letters_topic, found.key, None, partition=found.partition),
        ]

    # ---------------------------------------------------------------- inside

    def _failed(self, found: Sequence[Entry], error: str) -> Outgoing:
        """A change that failed once more, as a retry or, after the last try, as a dead letter."""
        entry = max(found, key=lambda each: each.attempts)
        attempts, policy = entry.attempts + 1, self._policy
        value, key = change_value(entry.change, entry.recorded), change_key(entry.change)
        now = SystemClock().now()
        if attempts >= policy.attempts:
            return Outgoing(self._settings.dead_letters_topic, key, value, Trial(attempts, 0.0, now, error).headers())
        pause = min(policy.backoff_max, policy.backoff * 2.0 ** min(attempts - 1, 60))
        where = entry.part.number if entry.key is not None else None
        headers = Trial(attempts, SystemClock().now().timestamp() + pause, now, error).headers()
        return Outgoing(self._settings.retries_topic, key, value, headers, where)

    def _popped(self, claim: Claim, changes: Iterable[Change]) -> dict[Change, list[Entry]]:
        held = _held(claim)
        if held not in self._claims:
            return {}
        if held.until < time.monotonic():
            self._give_back(held)
            return {}
        popped = held.pop(changes)
        if not held.entries:
            self._claims.discard(held)
        return popped

    def _put_back(self, claim: Claim, popped: Mapping[Change, list[Entry]]) -> None:
        held = _held(claim)
        held.entries.update(popped)
        self._claims.add(held)

    def _give_back(self, held: _Held) -> None:
        self._claims.discard(held)
        entries = [entry for found in held.entries.values() for entry in found]
        held.entries.clear()
        self._member.give_back(entries)

    async def _span(self) -> tuple[Offsets, Offsets]:
        """From where each partition still counts, and where it ends."""
        places = await self._cluster.places()
        committed = await self._cluster.committed(places)
        starts = {place: committed[place] for place in places if place in committed}
        ends = await self._cluster.ends(places)
        # Where nothing was committed, all that was ever there waits; most often that is nothing.
        starts |= dict.fromkeys((place for place in places if ends[place] == 0), 0)
        starts |= await self._cluster.starts(place for place in places if place not in starts)
        return starts, ends

    async def _dead_letters(self) -> tuple[Offsets, Offsets]:
        topic = self._settings.dead_letters_topic
        places = [place for place in await self._cluster.places() if place[0] == topic]
        return await self._cluster.starts(places), await self._cluster.ends(places)

    async def _oldest(self, starts: Offsets, ends: Offsets) -> datetime | None:
        """When the oldest change that is not done was recorded."""
        firsts: dict[Place, int] = {}

        def visit(message: Seen) -> None:
            firsts.setdefault(place_of(message), message.timestamp()[1])

        lagging = {place: start for place, start in starts.items() if start < ends[place]}
        await self._reader.read(lagging, {place: start + 1 for place, start in lagging.items()}, visit)
        return datetime.fromtimestamp(min(firsts.values()) / 1_000, UTC) if firsts else None


def _held(claim: Claim) -> _Held:
    if not isinstance(claim.token, _Held):
        raise TypeError("this claim is another queue's")
    return claim.token


def _of(topic: str, offsets: Offsets) -> Offsets:
    return {place: offset for place, offset in offsets.items() if place[0] == topic}
