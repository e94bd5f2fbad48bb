"""The change queue in Kafka. Opened by `omnimem.storage.factory` only."""

from memground.extras import missing_package

try:
    import confluent_kafka as confluent_kafka
except ImportError as error:
    raise missing_package("confluent-kafka", "kafka") from error

from omnimem.storage.kafka.queue import KafkaQueue

__all__ = ["KafkaQueue"]
