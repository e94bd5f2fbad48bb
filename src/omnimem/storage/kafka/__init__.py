"""The change queue in Kafka."""
