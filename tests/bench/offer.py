"""An application: a process that logs events at a steady rate, until it is ended.

It is no contestant, so it costs as little as an application can: it lets events share requests for longer than the
default, as one that logs thousands a second should, and makes no more anew for an event than its AuditEvent.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from types import FrameType
from typing import Final

from bench.source import tenant_names
from sealstream.kafka.topics import TopicNames
from sealstream.producers import SyncAuditLog
from sealstream.schemas.event import Actor, AuditEvent, Context, Target

_STEP_SECONDS: Final = 0.01
LINGER_SECONDS: Final = 0.05
"""How long events wait to share a request. librdkafka sends one for each partition: at the default of 5 ms, 8,000
events a second make 800 requests, each of which costs sender, broker and whoever reads at the log's end."""

_ACTORS: Final = tuple(Actor("user", f"u-{number}", "Ada Byron") for number in range(997))
_TARGETS: Final = tuple((Target("document", f"d-{number}", "Quarterly report"),) for number in range(1_009))
_CONTEXT: Final = Context(ip="192.0.2.17", user_agent="acme-cli/3.2.1", session="s-1b2c3d4e5f")
_METADATA: Final = {"field": "title", "note": "changed after review"}


def make_event(number: int, tenants: list[str]) -> AuditEvent:
    """Return the event of a number, about 300 bytes as a record's value, of parts that are made once."""
    return AuditEvent(
        tenant=tenants[number % len(tenants)],
        actor=_ACTORS[number % len(_ACTORS)],
        action="document.updated",
        targets=_TARGETS[number % len(_TARGETS)],
        context=_CONTEXT,
        metadata=_METADATA,
    )


def offer(*, kafka: str, prefix: str, instance: str, tenants: int, rate: float) -> None:
    """Log events until SIGTERM, and wait until all of them are published.

    Arguments:
        kafka: The brokers.
        prefix: What the topics' names begin with.
        instance: The instance.
        tenants: Number of tenants.
        rate: Events a second.
    """
    names = [name.decode() for name in tenant_names(tenants)]
    ended = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    topics = TopicNames(prefix=prefix)
    with SyncAuditLog(kafka=kafka, instance=instance, topics=topics, linger_seconds=LINGER_SECONDS) as audit:
        begin, number = time.monotonic(), 0
        while not ended:
            due = (time.monotonic() - begin) * rate
            while number < due and not ended:
                audit.log(make_event(number, names))
                number += 1
            time.sleep(_STEP_SECONDS)


if __name__ == "__main__":
    offer(**json.loads(sys.argv[1]))
