"""A batch: what one transaction covers, on its way from the log through Faust's channel to the agent and back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from confluent_kafka import Message


@dataclass(slots=True, eq=False)
class Batch:
    """Records that one transaction will cover.

    Arguments:
        generation: The assignment under which they were read; a batch of an earlier one is thrown away.
        starts: By partition, the position from which the batch was read. The agent compares it with the heads, so a
            batch that got lost on the way is noticed.
        records: By partition, its records in the order of their offsets.
        ends: By partition, the position behind everything that was read, offsets that are no records included.
        count: Number of records.
        size_bytes: Bytes of their values.
        done: Set when the agent is through with the batch.
        error: Why the worker must stop, if it must.
    """

    generation: int
    starts: dict[int, int] = field(default_factory=dict[int, int])
    records: dict[int, list[Message]] = field(default_factory=dict[int, list[Message]])
    ends: dict[int, int] = field(default_factory=dict[int, int])
    count: int = 0
    size_bytes: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None
