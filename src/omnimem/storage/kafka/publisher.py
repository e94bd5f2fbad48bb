"""Publishes messages and waits until every replica in sync has them."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from omnimem.storage.kafka.cluster import Cluster, Lane
from omnimem.storage.kafka.messages import Outgoing
from omnimem.storage.settings.kafka import milliseconds

_PART = 10_000
"""Messages handed to the client before their delivery is waited for."""
_CLOSING = 2.0


class Publisher:
    """An idempotent producer: what it repeats for want of an answer is stored once, in order.

    What is to be published while the brokers are asked goes together next.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lane = Lane("omnimem-kafka-publisher")
        self._producer: Producer | None = None
        self._pending: list[tuple[Sequence[Outgoing], asyncio.Future[None]]] = []
        self._pump: asyncio.Task[None] | None = None

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Raises UnavailableError where some were not acknowledged in time; these, and others, may be stored."""
        for start in range(0, len(messages), _PART):
            done = asyncio.get_running_loop().create_future()
            self._pending.append((messages[start : start + _PART], done))
            if self._pump is None or self._pump.done():
                self._pump = asyncio.create_task(self._pumping(), name="omnimem-kafka-publisher")
            await done

    async def close(self) -> None:
        if self._pump is not None:
            await self._pump
        await self._lane.close(self._close)

    async def _pumping(self) -> None:
        while self._pending:
            count, taken = 0, 0
            while taken < len(self._pending) and (not taken or count + len(self._pending[taken][0]) <= _PART):
                count += len(self._pending[taken][0])
                taken += 1
            batch, self._pending = self._pending[:taken], self._pending[taken:]
            failed: BaseException | None = None
            try:
                await self._cluster.prepare()
                if error := await self._lane.run(self._publish, [each for messages, _ in batch for each in messages]):
                    failed = self._cluster.error(f"publishing {count} messages", error)
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                failed = error
            for _, done in batch:
                if not done.done() and failed is None:
                    done.set_result(None)
                elif not done.done() and failed is not None:
                    done.set_exception(failed)

    def _publish(self, messages: Sequence[Outgoing]) -> KafkaError | None:
        producer = self._producer
        if producer is None:
            producer = self._producer = self._cluster.client(Producer, self._config())
        answers: list[KafkaError | None] = []

        def answered(error: KafkaError | None, _: Message) -> None:
            answers.append(error)

        for message in messages:
            send(producer, message, answered)
        until = time.monotonic() + self._cluster.settings.timeout + 1
        while len(answers) < len(messages) and time.monotonic() < until:
            producer.poll(0.1)
        failed = next((error for error in answers if error is not None), None)
        if failed is None and len(answers) < len(messages):
            failed = KafkaError(KafkaError._TIMED_OUT)  # pyright: ignore[reportPrivateUsage]
        if failed is not None:
            # What is still under way must not arrive behind what will be published instead.
            producer.purge()
            producer.poll(0)
            self._close()
        return failed

    def _config(self) -> dict[str, Any]:
        return {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "delivery.timeout.ms": milliseconds(self._cluster.settings.timeout),
        }

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.flush(_CLOSING)


class Mover:
    """Moves messages from one topic to another in transactions. One at a time: a second mover stops the first."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lane = Lane("omnimem-kafka-mover")
        self._producer: Producer | None = None

    async def begin(self) -> None:
        """From here on no other mover moves anything; what an earlier one had begun is settled."""
        await self._run("beginning a replay", self._begin)

    async def move(self, messages: Sequence[Outgoing]) -> None:
        """Publishes all of the messages, or none. Raises UnavailableError where another mover took over."""
        await self._run("replaying", self._move, messages)

    async def close(self) -> None:
        await self._lane.close(self._close)

    async def _run(self, what: str, call: object, *args: object) -> None:
        try:
            await self._lane.run(call, *args)  # pyright: ignore[reportArgumentType]
        except KafkaException as error:
            raise self._cluster.error(what, error) from error

    def _begin(self) -> None:
        settings = self._cluster.settings
        timeout = milliseconds(settings.timeout)
        own = {"transactional.id": f"{settings.prefix}.replay", "transaction.timeout.ms": max(1_000, timeout)}
        producer = self._cluster.client(Producer, own)
        producer.init_transactions(settings.timeout)
        self._producer = producer

    def _close(self) -> None:
        self._producer = None

    def _move(self, messages: Sequence[Outgoing]) -> None:
        producer = self._producer
        if producer is None:
            raise AssertionError("begin() comes first")
        producer.begin_transaction()
        try:
            for message in messages:
                send(producer, message)
            producer.commit_transaction(self._cluster.settings.timeout)
        except KafkaException as error:
            if cast("KafkaError", error.args[0]).txn_requires_abort():
                producer.abort_transaction(self._cluster.settings.timeout)
            raise


def send(producer: Producer, message: Outgoing, answered: object = None) -> None:
    """Hands a message to the client."""
    where = -1 if message.partition is None else message.partition
    producer.produce(
        message.topic,
        value=message.value,
        key=message.key,
        partition=where,
        headers=list(message.headers),
        on_delivery=answered,  # pyright: ignore[reportArgumentType]
    )
