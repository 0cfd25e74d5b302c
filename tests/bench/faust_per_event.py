"""What one writes with Faust alone: an agent that takes one event at a time, a table, and ``exactly_once``.

It makes the same entries from sound events. That its own guarantee is none here (sends to a topic that the app does not
read are outside the transaction) is Faust's; it makes it faster, not slower.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from hashlib import sha256
from typing import Any, cast

import faust

from bench.bare_loop import Task
from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import ZERO_HASH, Genesis, Kind, pack_trusted, payload_digest

_HEAD = struct.Struct(">Q32s")


def create_app(task: Task, directory: str) -> faust.App:
    """Return the application."""
    app = faust.App(
        task.group,
        broker=f"kafka://{task.bootstrap}",
        processing_guarantee="exactly_once",
        topic_partitions=task.partitions,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        store="memory://",
        datadir=directory,
        web_enabled=False,
        topic_disable_leader=True,
    )
    raw: dict[str, Any] = {
        "key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw",
    }  # fmt: skip
    source = app.topic(task.source, partitions=task.partitions, **raw)
    chained = app.topic(task.chained, partitions=task.partitions, **raw)
    heads: Any = cast("Any", app).Table("heads", partitions=task.partitions, key_type=bytes, value_type=bytes)
    genesis, topic_id = Genesis.parse(task.genesis.encode()), bytes.fromhex(task.topic_id)
    seen: dict[bytes, tuple[int, int, int, bytes]] = {}

    @app.agent(source, name="chain")
    async def chain(stream: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        """Seal one event after the other."""
        async for event in stream.events():
            message, key, value = event.message, event.message.key, event.value
            partition, offset, received = message.partition, message.offset, round(message.timestamp * 1000) * 1000
            event_id, tenant, _ = read_prefix(value)
            if tenant != key or partition_of(key, task.partitions) != partition:
                raise ValueError("a record is not sound")
            packed = heads.get(key)
            seq, prev = (0, ZERO_HASH) if packed is None else _HEAD.unpack(packed)
            if packed is None:
                payload = genesis.payload()
                entry = pack_trusted(
                    Kind.GENESIS, 0, key, 0, ZERO_HASH, received, topic_id, partition, offset, 0, b"", len(payload),
                    payload_digest(payload),
                )  # fmt: skip
                await chained.send(key=key, value=payload, partition=partition, headers={"seal-entry": entry})
                seq, prev = 1, sha256(b"\x00" + entry).digest()
            digest, kind, ref = payload_digest(value), Kind.EVENT, 0
            known = seen.get(key + b"/" + event_id)
            if known is not None and offset - known[0] <= task.window_offsets:
                ref, kind = known[2], Kind.DUPLICATE if known[3] == digest else Kind.CONFLICT
            if kind is not Kind.DUPLICATE:
                seen[key + b"/" + event_id] = (offset, received, seq, digest)
            entry = pack_trusted(
                kind, 0, key, seq, prev, received, topic_id, partition, offset, ref, event_id, len(value), digest
            )
            carried = b"" if kind is Kind.DUPLICATE else value
            await chained.send(key=key, value=carried, partition=partition, headers={"seal-entry": entry})
            heads[key] = _HEAD.pack(seq + 1, sha256(b"\x00" + entry).digest())

    return app


def main() -> None:
    """Run the worker until it is ended."""
    with tempfile.TemporaryDirectory(prefix="sealstream-bench-") as directory:
        app = create_app(Task(**json.loads(sys.argv[1])), directory)
        app.finalize()
        faust.Worker(app, loglevel="warning").execute_from_commandline()


if __name__ == "__main__":
    main()
