"""From outbox tables to Kafka."""
