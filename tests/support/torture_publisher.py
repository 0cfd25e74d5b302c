"""A process that publishes through a spool until it is killed, and notes each event whose receipt says that it is safe.

``python -m support.torture_publisher KAFKA PREFIX INSTANCE SPOOL RECEIPTS LIFE`` logs without end; with ``drain`` as
its life it only sends what the spool holds.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from sealstream.kafka.topics import TopicNames
from sealstream.producers import QueueFull, SpoolError, SyncAuditLog, SyncReceipt

BURST = 20
PAUSE_SECONDS = 0.05
SPOOLED_SECONDS = 60.0
DRAIN_SECONDS = 90.0
TENANTS = ("shared", "own")


def main() -> None:
    """Run."""
    bootstrap, prefix, instance, spool, receipts, life = sys.argv[1:]
    audit = SyncAuditLog(
        kafka=bootstrap,
        instance=instance,
        topics=TopicNames(prefix=prefix),
        spool=spool,
        spool_bytes_max=64 * 1024 * 1024,
        queue_events_max=2_000,
        when_full="raise",
    )
    if life == "drain":
        audit.log(tenant="shared", actor="service:torture", action="drain.begun", id=f"{Path(spool).name}-drain")
        assert audit.flush(DRAIN_SECONDS) == 0, audit.stats
        audit.close()
        return
    name = Path(spool).name
    file = os.open(receipts, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    number = 0
    while True:
        burst = list[SyncReceipt]()
        for _ in range(BURST):
            number += 1
            tenant = TENANTS[number % 2]
            try:
                burst.append(
                    audit.log(
                        tenant=tenant if tenant == "shared" else name,
                        actor="service:torture",
                        action="load.made",
                        id=f"{name}-{life}-{number}",
                        metadata={"note": "x" * 200},
                    )
                )
            except QueueFull:
                break
        _note(file, burst)
        time.sleep(PAUSE_SECONDS)


def _note(file: int, burst: list[SyncReceipt]) -> None:
    """Write down, in one call, which events are safe: what is written so survives the process's being killed."""
    lines: list[str] = []
    for receipt in burst:
        try:
            receipt.spooled(SPOOLED_SECONDS)
        except SpoolError:
            continue
        lines.append(receipt.as_json() + "\n")
    os.write(file, "".join(lines).encode())


if __name__ == "__main__":
    main()
