"""Whether what was read of audit.chained is what the verifier has verified: chain by chain, by where each goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from sealstream.schemas.errors import CheckpointRefused, SealInvalid
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.recomputing.differences import Difference
from sealstream.sinks.witness.recomputing.epochs import Epochs
from sealstream.sinks.witness.recomputing.refusal import Refusal
from sealstream.sinks.witness.recomputing.sources import Sources
from sealstream.sinks.witness.recomputing.strands import Packed, Strands
from sealstream.sinks.witness.recomputing.stretch import Followed

ALTERED: Final = "audit.chained was altered after it was verified: see who may write to the brokers' disks"
RETRY_SECONDS: Final = 2
"""When asking again may help, where little is missing."""


class Confirmation:
    """Compares chains with what the verifier says of them.

    Arguments:
        epochs: What is read.
        sources: The epoch that was read.
        strands: The chains that were read and not cut.
        load: Returns a chain as it is at the last cut.
        changed: The chains that have grown.
        deadline: When to give up for now, on the monotonic clock.
    """

    def __init__(
        self,
        epochs: Epochs,
        sources: Sources,
        strands: Strands,
        *,
        load: Callable[[bytes], Packed | None],
        changed: Collection[bytes],
        deadline: float,
    ) -> None:
        self._epochs = epochs
        self._sources = sources
        self._strands = strands
        self._load = load
        self._changed = changed
        self._deadline = deadline
        self._is_newest = sources is epochs.newest
        self._looked = False

    def confirm(self, followed: Followed) -> None:
        """Compare where each chain goes on with what the verifier says.

        Arguments:
            followed: Where the chains go on behind the last cut.

        Raises:
            Behind: What it says is still being read.
            Refusal: A chain goes on elsewhere: what was read is not what was verified.
        """
        word = self._sources.word
        names = dict(word.changed)
        read = (*self._changed, *followed.heads, *self._strands.awake)
        names |= {name: self._sources.partition(name) for name in read if name not in names}
        for name, partition in names.items():
            self._confirm(name, partition, followed)
        word.rest()

    def _confirm(self, name: bytes, partition: int, followed: Followed) -> None:
        chain, head = self._sources.word.chain(partition, name), followed.heads.get(name)
        resumed = followed.resumed.get(name)
        if resumed is not None and resumed != self._end_before(name):
            head = None  # it goes on from no verified end: the verifier has passed it over, or it was altered
        ours = head or self._head(name)
        if chain is not None and ours in (chain.head, chain.other):
            return
        if chain is not None and chain.open:
            if name in self._changed:
                raise stopped(chain, chain.open[0], None)
            return
        unread = chain is not None and name not in self._changed and head is None
        if chain is not None and unread and self._stands_elsewhere(name, ours, chain):
            return
        raise self._altered(name, partition, ours, chain)

    def _stands_elsewhere(self, name: bytes, ours: tuple[int, bytes], chain: Chain) -> bool:
        """Return whether a chain of which nothing was read here differs because of what is in the other epoch.

        In the newest one it may stand where it was carried over, with entries before that no round covers yet: they
        are compared with what was verified when such a round comes. In the one before it may have been gone on with:
        what rounds cover of it since was compared with what was verified there.
        """
        if self._is_newest:
            return ours[0] < chain.seq and self._end_before(name) == chain.head
        self._look(self._epochs.newest)
        later = self._epochs.newest.chain(name)
        return later is not None and later.seq >= ours[0] > chain.seq

    def _end_before(self, name: bytes) -> tuple[int, bytes] | None:
        """Return where a chain is verified to end in the epoch before; ``None`` if it is not known there."""
        older = self._epochs.older() if self._is_newest else None
        if older is None:
            return None
        self._look(older)
        chain = older.chain(name)
        return None if chain is None else chain.head

    def _look(self, other: Sources) -> None:
        """Take in what the verifier says of the other epoch, which must not be older than what it says of this one."""
        if not self._looked:
            if not other.word.refresh(self._deadline):
                raise Behind("the verifier's state is still being read", retry_after_seconds=RETRY_SECONDS)
            self._looked = True

    def _head(self, name: bytes) -> tuple[int, bytes]:
        strand = self._strands.awake.get(name) or Strands(self._load)[name]
        return strand.seq, strand.prev

    def _altered(self, name: bytes, partition: int, ours: tuple[int, bytes], chain: Chain | None) -> Refusal:
        """Return the refusal of a chain that is not read as it was verified."""
        tenant, theirs = name.decode("ascii", "replace"), (0, b"") if chain is None else chain.head
        unlinked = self._strands.unlinked.get(name)
        if unlinked is not None and unlinked.seq > unlinked.expected:
            kind, seq = ViolationType.GAP, unlinked.expected
        elif unlinked is not None and unlinked.seq == unlinked.expected:
            kind, seq = ViolationType.EDITED, max(unlinked.expected - 1, 0)
        elif ours[0] < theirs[0]:
            kind, seq = ViolationType.TRUNCATED, ours[0]
        elif ours[0] > theirs[0]:
            kind, seq = ViolationType.FORK, theirs[0]
        else:
            kind, seq = ViolationType.EDITED, max(ours[0] - 1, 0)
        message = f"audit.chained holds another chain than was verified: it goes on at {ours[0]}, not {theirs[0]}"
        differs = Difference(kind, message, tenant, seq, partition, expected=theirs[1].hex(), found=ours[1].hex())
        return Refusal(
            SealInvalid(f"tenant {tenant} seq {seq}: {message}", hint=ALTERED), self._sources.violation(differs)
        )


def stopped(chain: Chain, key: str, violation: Violation | None) -> Refusal:
    """Return the refusal of a round that covers what is behind an open violation.

    Arguments:
        chain: The chain.
        key: The violation's id.
        violation: What is recorded under it, if that is known.
    """
    tenant = chain.name.decode("ascii", "replace")
    seq = "" if violation is None or violation.seq is None else f" seq {violation.seq}"
    kind = "violation" if violation is None else violation.type.value
    ids = ", ".join(chain.open)
    return Refusal(
        CheckpointRefused(
            f"tenant {tenant}{seq}: the round covers what is behind an open violation ({kind} {key})",
            hint=f"sealstream violations explain; resolve them, then the witness goes on: {ids}",
        )
    )
