"""From outbox tables to Kafka: the worker ``sealstream outbox relay``, and what sets the table up and looks at it.

Needs the extra ``outbox``.
"""
