"""A round that covers more than will ever be verified: waiting does not help, so it has to be said what is wrong.

What a store has, and a notary covers, stood on audit.chained before. So where the verifier has read all of it, and has
not come to where a round ends, the round has something that is not there; or a record is there that is out of place.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Message

from sealstream.schemas.entry import partition_chain
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.verifier.state import Position
from sealstream.sinks.witness.recomputing.chained_log import ChainedLog
from sealstream.sinks.witness.recomputing.differences import Difference
from sealstream.sinks.witness.recomputing.stretch import Place, coordinates

_LOOK_SECONDS: Final = 5.0


def unverifiable(chained: ChainedLog, place: Place, position: Position, *, number: int, end: int) -> Difference | None:
    """Return what is wrong with a round's part that ends behind everything that is verified.

    Arguments:
        chained: What is read; it has to be read anew from the places afterwards.
        place: The partition, up to where it was recomputed.
        position: How far it is verified.
        number: The round.
        end: The source offset at which it ends.

    Returns:
        What is wrong; ``None`` if there is something that the verifier has not read yet, or nobody can tell in time.

    Raises:
        SourceExpired, Unreachable: audit.chained cannot be read.
    """
    partition, deadline = place.partition, time.monotonic() + _LOOK_SECONDS
    limit = chained.end(partition)
    for _ in _records(chained, partition, position.chained, limit, deadline):
        return None
    for message in _records(chained, partition, place.chained, limit, deadline):
        found = coordinates(message)
        if found is None or (found.topic_id, found.partition) == (place.topic_id, partition):
            continue
        name = found.name.decode("ascii", "replace")
        message_words = "the entry belongs to another topic or partition"
        return Difference(ViolationType.FOREIGN, message_words, name, found.seq, partition, found.offset)
    if time.monotonic() >= deadline:
        return None
    words = f"round {number}, partition {partition}: it ends at offset {end}, and nothing is chained behind"
    chain, verified = partition_chain(partition), position.verified
    expected = (str(verified), str(end))
    return Difference(ViolationType.EDITED, f"{words} {verified}", chain, None, partition, verified, *expected)


def _records(chained: ChainedLog, partition: int, begin: int, limit: int, deadline: float) -> Iterator[Message]:
    """Yield the records from an offset up to another one, as far as they come in time."""
    chained.read({partition: begin})
    while time.monotonic() < deadline:
        messages = chained.waiting(partition)
        yield from messages
        chained.take(partition, len(messages))
        if not messages and chained.has_come_to(partition, limit):
            return
        if not messages:
            chained.fill({partition})
