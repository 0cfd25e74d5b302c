"""Publishing over HTTP, for whoever has no Kafka client."""
