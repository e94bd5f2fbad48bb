"""Reads parts of topics without taking part in the group."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, TopicPartition

from omnimem.storage.kafka.cluster import Cluster, Lane, Place
from omnimem.storage.kafka.messages import Seen

type Visit = Callable[[Seen], Any]

_AT_ONCE = 1_000


class Reader:
    """One consumer that belongs to no group; reads are made one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lane = Lane("omnimem-kafka-reader")
        self._consumer: Consumer | None = None
        self._topics: set[str] = set()
        self._reading = asyncio.Lock()

    async def read(self, starts: Mapping[Place, int], ends: Mapping[Place, int], visit: Visit) -> None:
        """Shows every message from `starts` up to `ends`, those of a partition in order.

        Raises UnavailableError where none came for as long as `timeout`.
        """
        wanted = {place: start for place, start in starts.items() if start < ends[place]}
        if not wanted:
            return
        async with self._reading:
            if not await self._lane.run(self._read, wanted, ends, visit):
                raise self._cluster.error("reading " + ", ".join(sorted({topic for topic, _ in wanted})))

    async def close(self) -> None:
        await self._lane.close(self._close)

    def _read(self, starts: Mapping[Place, int], ends: Mapping[Place, int], visit: Visit) -> bool:
        consumer = self._consumer
        if consumer is None:
            consumer = self._consumer = self._cluster.client(Consumer, self._config())
        for topic in {topic for topic, _ in starts} - self._topics:
            consumer.list_topics(topic, self._cluster.settings.timeout)  # else it finds the leaders a second later
            self._topics.add(topic)
        left = set(starts)
        consumer.assign([TopicPartition(topic, number, offset) for (topic, number), offset in starts.items()])
        try:
            until = time.monotonic() + self._cluster.settings.timeout
            while left and time.monotonic() < until:
                for message in _received(consumer, _AT_ONCE, 0.05):
                    if (place := place_of(message)) not in left:
                        continue
                    until = time.monotonic() + self._cluster.settings.timeout
                    offset = cast("int", message.offset())
                    error = message.error()
                    if error is None and offset < ends[place]:
                        visit(message)
                        offset += 1
                    if (error is None or error.code() == KafkaError._PARTITION_EOF) and offset >= ends[place]:  # pyright: ignore[reportPrivateUsage]
                        left.discard(place)
            return not left
        finally:
            consumer.unassign()

    def _config(self) -> dict[str, Any]:
        return {
            "group.id": f"{self._cluster.settings.prefix}.readers",  # asked for, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "queued.max.messages.kbytes": 4_096,
        }

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()


def place_of(message: Seen) -> Place:
    return cast("str", message.topic()), cast("int", message.partition())


def _received(consumer: Consumer, most: int, seconds: float) -> list[Seen]:
    """What is there, up to `most`; where nothing is, the first that comes within `seconds`."""
    # Asked for many at once, the client waits until it has as many.
    first = consumer.poll(seconds)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)] if most > 1 else [first]
