"""Where audit.chained is read on from behind a cut, and whether it still has everything that stands there.

Its beginning may be gone. Of what is gone nothing may lie behind the cut: an entry that nobody sees would be taken for
a lie of the log. That nothing does shows an entry from before the cut that is still there; or else each chain, whose
next entry is the first one of it that is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import SourceExpired, Unreachable
from sealstream.sinks.verifier.state import Position
from sealstream.sinks.witness.recomputing.sources import Sources
from sealstream.sinks.witness.recomputing.stretch import ChainedMessage, Place, coordinates
from sealstream.worker.logs import logger

STALL_SECONDS: Final = 60.0
"""How long nothing may come of a topic that has more."""
_TOLD_SECONDS: Final = 10.0

Sizes = Callable[[bytes], int]
"""Returns how many entries a chain has at the cut, by its name."""


@dataclass(slots=True)
class _Look:
    """A partition that is looked at from its beginning on.

    Arguments:
        place: Where it is read on; its ``chained`` is not known before the first record behind the cut.
        start: The first offset that it has.
        limit: Up to where it is verified, and looked at.
        pending: The chains whose next entry has to be seen, and its seq: of those no record may be gone.
        is_found: Whether the first record behind the cut was seen.
    """

    place: Place
    start: int
    limit: int
    pending: dict[bytes, int] = field(default_factory=dict[bytes, int])
    is_found: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing more has to be seen."""
        return self.is_found and not self.pending


def places_behind(sources: Sources, end: Callable[[bytes, int], int], sizes: Sizes) -> list[Place]:
    """Return where each partition of an epoch is read on.

    Arguments:
        sources: The epoch, of which the verifier's word is known.
        end: Returns up to where the cut accounts for a source partition.
        sizes: The chains' sizes at the cut.

    Raises:
        SourceExpired: Something that stands behind the cut is no longer on audit.chained.
        Unreachable: It cannot be read.
    """
    topic_id = sources.topic_id()
    if topic_id is None:
        return []
    places: list[Place] = []
    looks: dict[int, _Look] = {}
    for number in range(sources.partitions):
        position, start = sources.word.position(number), sources.chained.start(number)
        place = Place(topic_id, number, chained=start, end=0 if position is None else end(topic_id, number))
        places.append(place)
        if position is None:
            continue
        if position.verified <= place.end:  # nothing verified stands behind the cut
            place.chained = max(start, position.chained)
            continue
        looks[number] = _look(sources, place, start, position, sizes)
    if looks:
        _look_at(sources, looks)
    return places


def _look(sources: Sources, place: Place, start: int, position: Position, sizes: Sizes) -> _Look:
    look = _Look(place, start, position.chained)
    if start:
        for chain in sources.word.known(place.partition):
            size = sizes(chain.name)
            if chain.seq > size and not chain.previous_topic:  # of one carried over nothing stands here
                look.pending[chain.name] = size
    return look


def _look_at(sources: Sources, looks: dict[int, _Look]) -> None:
    chained = sources.chained
    chained.read({number: look.start for number, look in looks.items()})
    seen = 0
    progress = told = time.monotonic()
    while looks:
        before = seen
        for number, look in list(looks.items()):
            while messages := chained.waiting(number):
                _take(look, messages)
                chained.take(number, len(messages))
                seen += len(messages)
                if look.is_done:
                    break
            if look.is_done or chained.has_come_to(number, look.limit):
                _check(look, chained.topic)
                del looks[number]
        now = time.monotonic()
        progress = now if seen > before or not looks else progress
        if now - progress > STALL_SECONDS:
            raise Unreachable(f"{chained.topic} is not read on", hint="see whether the brokers are up")
        if now - told > _TOLD_SECONDS:
            logger().info("looking for the first records behind the checkpoint", records=seen, partitions=len(looks))
            told = now
        if looks:
            chained.fill(looks)


def _take(look: _Look, messages: Sequence[ChainedMessage]) -> None:
    place = look.place
    for message in messages:
        at = message.offset()
        if at is None or at >= look.limit:
            return
        found = coordinates(message)
        if found is None or (found.topic_id, found.partition) != (place.topic_id, place.partition):
            continue
        if found.offset < place.end:
            look.pending.clear()  # it is from before the cut, so nothing behind the cut is gone
            continue
        if not look.is_found:
            look.is_found, place.chained = True, at
        wanted = look.pending.get(found.name)
        if wanted is not None and (found.seq == wanted or found.kind == Kind.EPOCH):
            del look.pending[found.name]  # what stands before an entry of kind 8 is not of this topic
        if look.is_done:
            return


def _check(look: _Look, topic: str) -> None:
    """Say where a partition is read on if nothing stands behind the cut; or that something is gone."""
    if not look.is_found:
        look.place.chained = look.limit
    if look.pending:
        name, seq = min(look.pending.items())
        raise SourceExpired(
            f"{topic} partition {look.place.partition} begins at offset {look.start}, and no longer has what stands"
            f" behind the checkpoint: chain {name.decode('ascii', 'replace')} seq {seq}",
            hint="begin with a newer root checkpoint, one whose next entries Kafka still has",
        )
