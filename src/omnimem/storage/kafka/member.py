"""A worker's membership in the consumer group: what it was given, handed out, and how far it got.

The client's calls are made on one thread, each a short one, so that a commit never waits for messages. What the calls
find is kept here under a lock: the rest of the queue reads and changes it between two of its own steps, which no
cancellation can come between.
"""

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from memground.clock import SystemClock
from memground.jobs import JobPolicy
from omnimem.storage.base import Change
from omnimem.storage.kafka.cluster import Cluster, Lane, Offsets, Place
from omnimem.storage.kafka.messages import Seen, read_change, read_trial
from omnimem.storage.kafka.progress import Part
from omnimem.storage.settings.kafka import milliseconds

_log = logging.getLogger("omnimem.kafka")

HELD_BACK = 10_000
"""Failed changes a worker keeps in memory until they are due; beyond, it reads no more of them for a while."""
_HEARTBEAT = 1.0
_GRACE = 4 * _HEARTBEAT
"""How long a worker that was given nothing waits for the others to share with it."""
_SLICE = 0.05
_LANE = "omnimem-kafka-worker"
_LISTENING = 0.002
"""Seconds between two looks for the answer to a commit: the client goes on waiting for messages when it has come."""
_UNSETTLED = frozenset(
    {
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._STATE,  # pyright: ignore[reportPrivateUsage]
        KafkaError._ASSIGNMENT_LOST,  # pyright: ignore[reportPrivateUsage]
        KafkaError._WAIT_COORD,  # pyright: ignore[reportPrivateUsage]
    }
)
"""What a commit meets while the group finds itself; it is tried again for what is still ours then."""


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A message that has to be worked on. `attempts`: how often it was tried and failed; `key`: of a retry."""

    part: Part
    offset: int
    change: Change
    recorded: int
    attempts: int = 0
    key: bytes | None = None


class Member:
    """Joins at the first `gather`, leaves at `close`."""

    def __init__(self, cluster: Cluster, policy: JobPolicy) -> None:
        self._cluster = cluster
        self._policy = policy
        self._ahead = max(2_000, 4 * policy.batch)
        self._lane = Lane(_LANE)
        self._consumer: Consumer | None = None
        self._gathering = asyncio.Lock()
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._settled = False
        self._joined = 0.0
        self._parts: dict[Place, Part] = {}
        self._ready: dict[Part, deque[Entry]] = {}
        self._later: list[tuple[float, int, Entry]] = []  # a heap by the moment they are due
        self._retries: dict[bytes, Entry] = {}  # those of the heap that still count
        self._paused: frozenset[str] | None = frozenset()  # topics that are not read; None: to be said anew
        self._answered: tuple[KafkaError | None, Offsets] | None = None

    # ---------------------------------------------------------------- handing out

    async def gather(self, limit: int, wait: float) -> None:
        """Reads on until `limit` entries are ready, or all that waits was read; where that is nothing, until something
        comes, at most `wait` seconds.

        Raises UnavailableError where the brokers do not answer.
        """
        async with self._gathering:
            await self._join()
            await self._poll(limit - self._count(), 0.0)
            if self._count() < limit:
                await self._read_on(limit)
            if self._count():
                return
            # What was only passed over is told as well.
            await self._call("committing offsets", self._commit, dict.fromkeys(self._parts.values(), frozenset[int]()))
            until = time.monotonic() + wait
            while not self._count() and (left := until - time.monotonic()) > 0:
                await self._poll(limit, min(left, _SLICE))

    async def _read_on(self, limit: int) -> None:
        ends = await self._cluster.ends(list(self._parts))
        until = time.monotonic() + self._cluster.settings.timeout
        while self._count() < limit and not self._reached(ends):
            if time.monotonic() > until:
                if self._count():
                    return
                raise self._cluster.error("reading changes")
            await self._poll(limit - self._count(), _SLICE)

    def take(self, limit: int) -> list[Entry]:
        """Up to `limit` entries that are due, oldest first, those of a partition in order."""
        with self._lock:
            fresh = sum(len(entries) for entries in self._ready.values())
            due = self._take_due(limit if not fresh else max(limit - fresh, limit // 2, 1))
            # A merge never changes the order within a partition, whatever the clocks of those who recorded said.
            room, taken = limit - len(due), list[Entry]()
            for entry in heapq.merge(*self._ready.values(), key=_age):
                if len(taken) == room:
                    break
                taken.append(entry)
            for entry in taken:
                self._ready[entry.part].popleft()
            return list(heapq.merge(due, taken, key=_age)) if due else taken

    def give_back(self, entries: Iterable[Entry]) -> None:
        """Entries to be handed out again at once."""
        with self._lock:
            for entry in entries:
                if not entry.part.held:
                    continue
                if entry.key is not None:
                    self._hold(entry, 0.0)
                else:
                    queue = [*self._ready[entry.part], entry]
                    self._ready[entry.part] = deque(sorted(queue, key=_offset))

    # ---------------------------------------------------------------- getting on

    async def done(self, entries: Sequence[Entry]) -> None:
        """Commits that entries need no more work. Raises UnavailableError where that got no answer in time; then they
        are not done."""
        done: dict[Part, set[int]] = {}
        for entry in entries:
            done.setdefault(entry.part, set()).add(entry.offset)
        until = time.monotonic() + self._cluster.settings.timeout
        while not await self._call("committing offsets", self._commit, done):
            if time.monotonic() > until:
                raise self._cluster.error("committing offsets")
            await self._poll(1, _SLICE)  # so that the group finds itself

    async def stay(self) -> None:
        """Says that this worker lives, and takes part in a rebalance that waits for it."""
        if self._consumer is not None:
            await self._poll(1, 0.0)

    async def close(self) -> None:
        """Leaves the group: others get what was not done."""
        await self._lane.close(self._close)

    # ---------------------------------------------------------------- on the thread of the client

    def _open(self) -> None:
        settings, policy = self._cluster.settings, self._policy
        session = milliseconds(settings.session_timeout)
        own = {
            "group.id": settings.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session,
            "heartbeat.interval.ms": milliseconds(_HEARTBEAT),
            # A worker that says nothing for as long as a lease has lost its work to others.
            "max.poll.interval.ms": max(milliseconds(policy.lease), session),
            "fetch.wait.max.ms": 100,
            "on_commit": self._heard,
            # Bounds what is read ahead, whatever waits.
            "queued.min.messages": self._ahead,
            "queued.max.messages.kbytes": 8_192,
            "topic.metadata.refresh.interval.ms": 60_000,
        }
        consumer = self._cluster.client(Consumer, own)
        topics = [settings.changes_topic, settings.retries_topic]
        consumer.subscribe(topics, on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)
        self._consumer, self._joined, self._settled = consumer, time.monotonic(), False

    def _read(self, count: int, seconds: float) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        # One by one: in the middle of a call that gives many, partitions may be taken and given back.
        for _ in range(max(1, count)):
            message = consumer.poll(seconds)
            if message is None:
                break
            self._came(message)
            seconds = 0.0
        with self._lock:
            self._balance(consumer)

    def _came(self, message: Seen) -> None:
        place = cast("str", message.topic()), cast("int", message.partition())
        error = message.error()
        with self._lock:
            part = self._parts.get(place)
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
                    if part is not None:
                        part.passed(cast("int", message.offset()))
                elif error.code() == KafkaError._MAX_POLL_EXCEEDED:  # pyright: ignore[reportPrivateUsage]
                    _log.warning("this worker said nothing for %g s; others have its work", self._policy.lease)
                else:
                    self._cluster.trouble(error)
            elif part is not None:
                self._add(part, message)

    def _add(self, part: Part, message: Seen) -> None:
        offset, value, key = cast("int", message.offset()), message.value(), message.key()
        retry = part.topic == self._cluster.settings.retries_topic
        if retry and key is not None and (former := self._retries.pop(key, None)) is not None:
            former.part.done(former.offset)  # this message takes its place
        if value is None:
            part.passed(offset + 1)
            return
        try:
            change, recorded = read_change(value)
        except ValueError as error:
            _log.error("%s, partition %d, offset %d is left out: %s", part.topic, part.number, offset, error)
            part.passed(offset + 1)
            return
        part.came(offset)
        if not retry:
            self._ready[part].append(Entry(part, offset, change, recorded))
            return
        trial = read_trial(message)
        entry = Entry(part, offset, change, recorded, trial.attempts, key or b"")
        self._hold(entry, trial.not_before)

    def _balance(self, consumer: Consumer) -> None:
        """Reads a topic no further while much of it is here."""
        before, topics = self._paused or frozenset[str](), self._cluster.settings
        ready = sum(len(entries) for entries in self._ready.values())
        held = {topics.changes_topic: (ready, self._ahead), topics.retries_topic: (len(self._retries), HELD_BACK)}
        full = frozenset(
            topic for topic, (here, most) in held.items() if here >= (most // 2 if topic in before else most)
        )
        if full == self._paused:
            return
        places = [TopicPartition(*place) for place in self._parts]
        consumer.pause([at for at in places if at.topic in full])
        consumer.resume([at for at in places if at.topic not in full])
        self._paused = full

    def _given(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        with self._lock:
            if consumer is not self._consumer:  # one that was given up
                return
            for at in places:
                part = Part(at.topic, at.partition)
                self._parts[at.topic, at.partition] = part
                self._ready[part] = deque()
            self._paused = None  # what was paused is so still, what was given is not
            self._settled = True

    def _taken(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        with self._lock:
            if self._consumer not in (consumer, None):  # one that was given up
                return
            for at in places:
                part = self._parts.pop((at.topic, at.partition), None)
                if part is not None:
                    part.held = False
                    self._ready.pop(part, None)
            if not self._parts:
                self._settled, self._joined = False, time.monotonic()
            self._retries = {key: entry for key, entry in self._retries.items() if entry.part.held}
            self._later = [item for item in self._later if item[2].part.held]
            heapq.heapify(self._later)

    def _commit(self, done: Mapping[Part, Set[int]]) -> bool:
        """Whether all is committed that is this worker's; then what was done counts as such."""
        with self._lock:
            marks = {
                part: mark
                for part, offsets in done.items()
                if part.held and (mark := part.watermark(offsets)) is not None and mark != part.committed
            }
        if marks and (error := self._committed(marks)) is not None:
            if error.code() in _UNSETTLED or error.retriable():
                return False
            raise self._cluster.error("committing offsets", error)
        with self._lock:
            for part, mark in marks.items():
                part.committed = mark
            for part, offsets in done.items():
                for offset in offsets:
                    part.done(offset)
        return True

    def _committed(self, marks: Mapping[Part, int]) -> KafkaError | None:
        """Commits offsets; the error of it, or UnavailableError where no answer came in time.

        A commit that waits for its answer inside the client may wait for ever, where a broker went away meanwhile. So
        the answer is listened for, and what comes besides is kept.
        """
        consumer = self._consumer
        if consumer is None:
            return None
        wanted = {(part.topic, part.number): mark for part, mark in marks.items()}
        offsets = [TopicPartition(*place, mark) for place, mark in wanted.items()]
        self._answered = None
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            return cast("KafkaError", error.args[0])
        until = time.monotonic() + self._cluster.settings.timeout
        while self._answered is None or self._answered[1] != wanted:  # another is that of one we gave up
            if time.monotonic() > until:
                raise self._cluster.error("committing offsets")
            self._read(1, _LISTENING)
        return self._answered[0]

    def _heard(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        failed = error or next((at.error for at in places if at.error is not None), None)
        self._answered = failed, {(at.topic, at.partition): at.offset for at in places}

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    # ---------------------------------------------------------------- inside

    async def _join(self) -> None:
        if self._consumer is None:
            await self._cluster.prepare()
            await self._call("joining the group of workers", self._open)
        settings = self._cluster.settings
        # A worker that died is waited for as long as its session lasts.
        until = time.monotonic() + settings.timeout + settings.session_timeout
        while not self._settled or (not self._parts and time.monotonic() < self._joined + _GRACE):
            if time.monotonic() > until:
                self._give_up()
                raise self._cluster.error("joining the group of workers")
            await self._poll(1, _SLICE)

    def _give_up(self) -> None:
        """Leaves a group that could not be joined in time, without waiting for it; the next `gather` joins anew.

        Half joined, the client would go on by itself: be given partitions once the brokers answer again, and keep them
        from others while nobody asks for their messages.
        """
        consumer, lane = self._consumer, self._lane
        self._consumer, self._lane = None, Lane(_LANE)
        if consumer is not None:
            lane.end(consumer.close)

    async def _poll(self, count: int, seconds: float) -> None:
        await self._call("reading changes", self._read, count, seconds)

    async def _call[T](self, what: str, call: Callable[..., T], *args: object) -> T:
        """A call of the client, on its thread; one that waits for a broker is not waited for longer than `timeout`."""
        try:
            async with asyncio.timeout(self._cluster.settings.timeout + _SLICE):
                return await self._lane.run(call, *args)
        except TimeoutError:
            raise self._cluster.error(what) from None
        except KafkaException as error:
            raise self._cluster.error(what, error) from error

    def _count(self) -> int:
        with self._lock:
            now = SystemClock().now().timestamp()
            due = sum(1 for moment, _, entry in self._later if moment <= now and self._counts(entry))
            return due + sum(len(entries) for entries in self._ready.values())

    def _reached(self, ends: Offsets) -> bool:
        """Whether all was read up to these ends, of the partitions that are still ours."""
        with self._lock:
            return all(
                (part := self._parts.get(place)) is None
                or end == 0
                or (part.position or 0) >= end
                or part.topic in (self._paused or ())
                for place, end in ends.items()
            )

    def _hold(self, entry: Entry, moment: float) -> None:
        self._retries[entry.key or b""] = entry
        heapq.heappush(self._later, (moment, next(self._numbers), entry))

    def _counts(self, entry: Entry) -> bool:
        return self._retries.get(entry.key or b"") is entry

    def _take_due(self, limit: int) -> list[Entry]:
        now, due = SystemClock().now().timestamp(), list[Entry]()
        while self._later and len(due) < limit and self._later[0][0] <= now:
            entry = heapq.heappop(self._later)[2]
            if self._counts(entry):
                del self._retries[entry.key or b""]
                due.append(entry)
        return sorted(due, key=_age)


def _age(entry: Entry) -> int:
    return entry.recorded


def _offset(entry: Entry) -> int:
    return entry.offset
