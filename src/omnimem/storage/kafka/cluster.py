"""The brokers: what there is in the topics and how far the group got. Every call is bounded in time."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, cast

try:
    from confluent_kafka import (
        Consumer,
        IsolationLevel,
        KafkaError,
        KafkaException,
        TopicCollection,
        TopicPartition,
    )
    from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]
except ImportError as error:  # pragma: no cover - depends on the installation
    from memground.extras import missing_package

    raise missing_package("confluent-kafka", "kafka") from error

from memground.errors import ConfigurationError, MemoryStoreError, UnavailableError
from omnimem.storage.settings.kafka import KafkaSettings

log = logging.getLogger("omnimem.kafka")
log_clients = logging.getLogger("omnimem.kafka.client")
log_clients.setLevel(logging.CRITICAL)  # what librdkafka says of lost connections; our errors say it too

type Place = tuple[str, int]
"""A topic and a partition."""
type Offsets = dict[Place, int]

_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,  # pyright: ignore[reportPrivateUsage]
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
    }
)
"""Errors that waiting does not mend."""
_PASSING = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._WAIT_COORD,  # pyright: ignore[reportPrivateUsage]
        KafkaError._NOENT,  # pyright: ignore[reportPrivateUsage]
    }
)
"""Errors of brokers that find themselves: after a start, or after a topic was made."""
_OUTDATED = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError._NOENT,  # pyright: ignore[reportPrivateUsage]
    }
)
"""Errors of a client that did not notice that a broker was started anew, and never will: "no leaders found"."""
_EARLIEST, _LATEST = cast("OffsetSpec", OffsetSpec.earliest()), cast("OffsetSpec", OffsetSpec.latest())
_COMPACTED = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": str(24 * 3600 * 1000)}


class Lane:
    """One thread for the blocking calls of one client, which it makes one after the other.

    The program may end while a call is still waiting for a broker: a ThreadPoolExecutor would keep it from that.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._open = True

    async def run[T](self, call: Callable[..., T], *args: Any) -> T:
        """Raises ConfigurationError once it is closed."""
        return await asyncio.wrap_future(self.submit(call, *args))

    def submit[T](self, call: Callable[..., T], *args: Any) -> Future[T]:
        """The same, as what will be answered."""
        if not self._open:
            raise ConfigurationError("this queue was closed")
        return self._submit(partial(call, *args))

    async def close(self, last: Callable[[], Any]) -> None:
        """Makes one last call and ends the thread. Does nothing the second time."""
        if (said := self.end(last)) is not None:
            await asyncio.wrap_future(said)

    def end(self, last: Callable[[], Any]) -> Future[Any] | None:
        """The same, without waiting for it; None the second time."""
        if not self._open:
            return None
        self._open = False
        said = self._submit(last)
        self._calls.put(None)
        return said

    def _submit[T](self, call: Callable[[], T]) -> Future[T]:
        if self._thread.ident is None:
            self._thread.start()
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def _work(self) -> None:
        while (given := self._calls.get()) is not None:
            future, call = given
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the one who waits
                future.set_exception(error)
            del given, future, call  # what was asked for is not kept until the next call


class Cluster:
    """What is asked about topics and the group, and the errors of it all."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._admin: AdminClient | None = None
        self._former: AdminClient | None = None
        self._group: _Group | None = None
        self._ready = False
        self._preparing = asyncio.Lock()
        self._trouble: KafkaError | None = None

    def trouble(self, error: KafkaError) -> None:
        """What a client says of the connection; the cause to be named when a call gets no answer."""
        known, down = self._trouble, error.code() == KafkaError._ALL_BROKERS_DOWN  # pyright: ignore[reportPrivateUsage]
        # "All brokers down" follows the cause and says less; so does what follows a refusal.
        if known is None or (known.code() not in _REFUSED and not down):
            self._trouble = error

    def client[Client](self, kind: Callable[[dict[str, Any]], Client], own: Mapping[str, Any] = {}) -> Client:
        """A client with what all have and what is its own; ConfigurationError where librdkafka cannot make it."""
        try:
            return kind({**self.settings.client(), "error_cb": self.trouble, "logger": log_clients, **own})
        except KafkaException as error:
            said = cast("KafkaError", error.args[0]).str()
            raise ConfigurationError(
                f"Kafka at {self.settings.servers}: no client can be made: {said}; check ca_file, certificate_file, "
                "key_file and key_password"
            ) from error

    @property
    def admin(self) -> Any:
        """The client for questions; its annotations leave open what its futures give."""
        if self._admin is None:
            self._admin = self.client(AdminClient)
        return self._admin

    async def close(self) -> None:
        """Ends the clients for questions; the next question makes a new one."""
        held, group = [self._admin, self._former], self._group
        self._admin = self._former = self._group = None
        await asyncio.to_thread(held.clear)  # its end may take a moment
        if group is not None:
            await group.close()

    async def _renew(self) -> None:
        """Has the next question make a new client. The old one stays for now: its thread may be telling us still."""
        held = [self._former]
        self._admin, self._former = None, self._admin
        await asyncio.to_thread(held.clear)

    def error(self, what: str, error: BaseException | KafkaError | None = None) -> MemoryStoreError:
        """What an error of Kafka is to our callers."""
        if isinstance(error, KafkaException):
            error = cast("KafkaError", error.args[0])
        if self._admin is not None:
            self._admin.poll(0)  # hears what was said of the connection
        if not isinstance(error, KafkaError) or error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):  # pyright: ignore[reportPrivateUsage]
            error = self._trouble or (error if isinstance(error, KafkaError) else None)
        why = "no answer" if error is None else error.str()
        kind = ConfigurationError if error is not None and error.code() in _REFUSED else UnavailableError
        return kind(f"Kafka at {self.settings.servers}: {what} failed: {why}")

    async def prepare(self) -> None:
        """Makes the topics where they are missing. Does nothing the second time."""
        if self._ready:
            return
        async with self._preparing:
            if self._ready:
                return
            s = self.settings
            replicas = -1 if s.replication is None else s.replication
            wanted = [
                NewTopic(s.changes_topic, s.partitions, replicas),
                NewTopic(s.retries_topic, s.partitions, replicas, config=_COMPACTED),
                NewTopic(s.dead_letters_topic, 1, replicas, config=_COMPACTED),
            ]
            made = self.admin.create_topics(wanted, request_timeout=s.timeout, operation_timeout=s.timeout)
            for topic, future in made.items():
                try:
                    await self._answer(f"making the topic {topic}", future)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise self.error(f"making the topic {topic}", error) from error
            self._ready = True

    async def places(self) -> list[Place]:
        """The partitions of all three topics."""
        await self.prepare()
        s = self.settings
        names = TopicCollection([s.changes_topic, s.retries_topic, s.dead_letters_topic])
        found = await self._asked(
            "reading topics", lambda: self.admin.describe_topics(names, request_timeout=s.timeout)
        )
        return [(name, part.id) for name, topic in found.items() for part in topic.partitions]

    async def committed(self, places: Sequence[Place]) -> Offsets:
        """How far the group got in partitions, where it got anywhere."""
        if self._group is None:
            self._group = _Group(self)
        asked, group = "reading the group's offsets", self._group
        return (await self._asked(asked, lambda: {asked: group.committed(places)}))[asked]

    async def starts(self, places: Iterable[Place]) -> Offsets:
        """The first offset of partitions."""
        return await self._offsets(places, _EARLIEST)

    async def ends(self, places: Iterable[Place]) -> Offsets:
        """The offset behind the last message of partitions that may be read."""
        return await self._offsets(places, _LATEST)

    async def visible(self) -> None:
        """Waits until all that was published can be read: a transaction ends a moment after it was committed."""
        places = await self.places()
        until = asyncio.get_running_loop().time() + self.settings.timeout
        written = await self._offsets(places, _LATEST, IsolationLevel.READ_UNCOMMITTED)
        while below(await self.ends(places), written):
            if asyncio.get_running_loop().time() > until:
                raise self.error("ending a replay")
            await asyncio.sleep(0.005)

    async def _offsets(
        self, places: Iterable[Place], spec: OffsetSpec, isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> Offsets:
        asked = {TopicPartition(topic, number): spec for topic, number in places}
        if not asked:
            return {}
        answers = await self._asked(
            "reading offsets",
            lambda: self.admin.list_offsets(asked, isolation_level=isolation, request_timeout=self.settings.timeout),
        )
        return {(at.topic, at.partition): answer.offset for at, answer in answers.items()}

    async def _asked[Key](self, what: str, ask: Callable[[], Mapping[Key, Future[Any]]]) -> dict[Key, Any]:
        """The answers to a question, asked again while the brokers only need a moment."""
        until = asyncio.get_running_loop().time() + self.settings.timeout
        while True:
            try:
                return {key: await self._answer(what, future) for key, future in ask().items()}
            except KafkaException as error:
                code = error.args[0].code()
                if code not in _PASSING or asyncio.get_running_loop().time() > until:
                    raise self.error(what, error) from error
            if code in _OUTDATED:
                await self._renew()
            if code == KafkaError.UNKNOWN_TOPIC_OR_PART:  # made just now, or deleted by somebody
                self._ready = False
                await self.prepare()
            await asyncio.sleep(0.05)

    async def _answer(self, what: str, future: Future[Any]) -> Any:
        # Kafka's own limit comes first; ours is for a client that waits for a broker it never reached.
        try:
            async with asyncio.timeout(self.settings.timeout + 1):
                answer = await asyncio.wrap_future(future)
        except TimeoutError:
            raise self.error(what) from None
        self._trouble = None
        return answer


class _Group:
    """A consumer that asks for the group's offsets and never joins it.

    AdminClient.list_consumer_group_offsets ends the whole process where the broker that is asked does not coordinate
    the group (yet, or any more), as after a start: librdkafka 2.16.0 and before, its issue 5040.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lane = Lane("omnimem-kafka-group")
        self._consumer: Consumer | None = None

    def committed(self, places: Sequence[Place]) -> Future[Offsets]:
        return self._lane.submit(self._committed, places)

    async def close(self) -> None:
        await self._lane.close(self._close)

    def _committed(self, places: Sequence[Place]) -> Offsets:
        settings = self._cluster.settings
        if self._consumer is None:
            own = {"group.id": settings.group, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
            self._consumer = self._cluster.client(Consumer, own)
        self._consumer.poll(0)  # hears what was said of the connection meanwhile
        found = self._consumer.committed([TopicPartition(*place) for place in places], settings.timeout)
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()


def below(starts: Mapping[Place, int], ends: Mapping[Place, int]) -> int:
    """How many messages lie between."""
    return sum(max(0, end - starts.get(place, 0)) for place, end in ends.items())
