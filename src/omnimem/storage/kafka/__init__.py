"""The change queue in Kafka. Opened by `omnimem.storage.factory` only."""

from omnimem.storage.kafka.queue import KafkaQueue
from omnimem.storage.kafka.settings import KafkaSettings

__all__ = ["KafkaQueue", "KafkaSettings"]
