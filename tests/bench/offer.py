"""An application: a process that logs events at a steady rate, until it is ended."""

from __future__ import annotations

import json
import signal
import sys
import time
from types import FrameType
from typing import Final

from bench.publish import make_event
from bench.source import tenant_names
from sealstream.kafka.topics import TopicNames
from sealstream.producers import SyncAuditLog

_STEP_SECONDS: Final = 0.01


def offer(*, kafka: str, prefix: str, instance: str, tenants: int, rate: float) -> None:
    """Log events until SIGTERM, and wait until all of them are published.

    Arguments:
        kafka: The brokers.
        prefix: What the topics' names begin with.
        instance: The instance.
        tenants: Number of tenants.
        rate: Events a second.
    """
    names = tenant_names(tenants)
    ended = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    with SyncAuditLog(kafka=kafka, instance=instance, topics=TopicNames(prefix=prefix)) as audit:
        begin, number = time.monotonic(), 0
        while not ended:
            due = (time.monotonic() - begin) * rate
            while number < due and not ended:
                audit.log(make_event(number, names))
                number += 1
            time.sleep(_STEP_SECONDS)


if __name__ == "__main__":
    offer(**json.loads(sys.argv[1]))
