"""What every Kafka role shares: the topics, client settings, the partitioner, the call policy for transactions."""
