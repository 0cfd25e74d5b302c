"""The spool: events on the sender's own disk, from ``log()`` until Kafka has them."""
