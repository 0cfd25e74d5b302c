"""One partition of audit.chained, checked record by record against what the rules demand of the source. Pure.

The common case is three comparisons of bytes, and nearly all of those are made in ``ordinary.py``. Where they fail, the
question is which of three things happened: another record stands in the place of the demanded one, the demanded one is
missing, or one too many is there. Behind that the checks find their footing again, so that one wrong record is one
violation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, cast

from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER
from sealstream.schemas.entry import (
    PUBLISHED_KINDS,
    ZERO_HASH,
    Entry,
    Genesis,
    Kind,
    entry_hash,
    parse_gap_payload,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid, InstanceDiffers
from sealstream.schemas.violation import Severity, Violation, ViolationType
from sealstream.sinks.verifier.ahead import LOOKAHEAD_RECORDS, Ahead, More
from sealstream.sinks.verifier.chains import Chains
from sealstream.sinks.verifier.diagnosis import Finding, claim_of, extra, instead
from sealstream.sinks.verifier.gaps import Declared, begins_for, declared
from sealstream.sinks.verifier.ordinary import OrdinaryPass
from sealstream.sinks.verifier.records import (
    OPEN_VIOLATIONS_MAX,
    Chain,
    ChainedMessage,
    ChainedRecord,
    Demand,
    Head,
    Outcome,
    Source,
)
from sealstream.sinks.verifier.rules import Rules, Verdict

_LEADING: Final = (Kind.GENESIS, Kind.EPOCH)
DELAYED_ENTRIES_MAX: Final = 1_000
"""How many entries that stand behind their place are waited for; they are found by their hash."""


class PartitionVerifier:
    """Checks audit.chained of one partition; knows every chain of it, and the duplicate window.

    Arguments:
        rules: The rules for this partition, their window filled as far as the verifier has come.
        source: The partition of audit.events, at ``source_position``.
        chains: The chains as far as they were verified.
        chained_position: The offset behind the last chained record that was checked.
        source_position: The first source offset whose entries have not all been verified.
        delayed: Hashes of entries that were reported to stand behind their place and have not come yet.
    """

    def __init__(
        self,
        rules: Rules,
        source: Source,
        *,
        chains: Chains | None = None,
        chained_position: int = 0,
        source_position: int = 0,
        delayed: Iterable[bytes] = (),
    ) -> None:
        self.rules = rules
        self.chains = Chains() if chains is None else chains
        self.chained_position = chained_position
        self.source_position = source_position
        self.delayed: dict[bytes, None] = dict.fromkeys(delayed)
        self._source = source
        self._demands: deque[Demand] = deque()
        self._clock_ahead = False
        self._ordinary = OrdinaryPass(rules, source, self.chains)

    def check(self, records: Sequence[ChainedMessage], more: More, *, latest: int) -> Outcome:
        """Check the next records of the partition.

        Arguments:
            records: The records, in the order of the log.
            more: Reads what follows them, where a doubt needs more to be decided.
            latest: The latest time received that is possible, in microseconds since the Unix epoch.

        Returns:
            What to publish, and what is wrong. This object has moved on behind it: if that is not committed, the
            object must be thrown away.

        Raises:
            InstanceDiffers: The first genesis ever met pins something else than this verifier is set up for.
        """
        outcome = Outcome()
        ahead = Ahead(records, more)
        while True:
            if not (self._demands or self._clock_ahead):
                self._pass_ordinary(ahead, outcome, latest)
            record = ahead.current()
            if record is None:
                break
            demand = self._demand(record)
            if demand is not None and demand.met_by(record):
                self._accept(record, demand, outcome)
                if demand.verdict.received > latest or self._clock_ahead:
                    self._check_clock(demand, latest, outcome)
            else:
                self._ordinary.forget()
                if not self._disagree(record, demand, ahead, outcome):
                    continue
            ahead.take()
            outcome.records += 1
            self.chained_position = record.offset + 1
        self._ordinary.forget()
        self.chains.rest(keep={demand.chain.name for demand in self._demands})
        return outcome

    def _pass_ordinary(self, ahead: Ahead, outcome: Outcome, latest: int) -> None:
        """Accept what is ordinary at once; the first record that is not, is judged by the whole rules."""
        index, position = self._ordinary.accept(ahead.messages, ahead.at, outcome, latest=latest)
        if index > ahead.at:
            self.source_position = position
            self.chained_position = cast("int", ahead.messages[index - 1].offset()) + 1
            ahead.take(index - ahead.at)

    @property
    def is_waiting(self) -> bool:
        """Whether a source record was taken whose entries have not all come yet."""
        return bool(self._demands)

    def _demand(self, record: ChainedRecord) -> Demand | None:
        """Return what must stand next, if the source has anything to stand for."""
        if not self._demands:
            source = self._source.ready()
            if source is None:
                claim = claim_of(record)
                source = self._source.wait(-1 if claim is None else claim.offset)
                if source is None:
                    return None
            verdict = self.rules.judge(source)
            chain = self._chain_of(verdict)
            self._demands.extend(self._demands_of(chain, verdict, chain.head))
        return self._demands[0]

    def _demands_of(self, chain: Chain, verdict: Verdict, head: Head, *, leads: bool = True) -> list[Demand]:
        """Return the records that must stand for a source record if its chain goes on at a head.

        Arguments:
            chain: The chain.
            verdict: What the rules say of the record.
            head: Where the chain goes on.
            leads: Whether a chain that is new in this source topic is to begin with this record.
        """
        demands: list[Demand] = []
        seq, prev = head
        if seq == 0:
            entry = self.rules.genesis_entry(verdict)
            prev = entry_hash(entry)
            demands.append(Demand(chain, verdict, True, 0, ZERO_HASH, entry, prev, self.rules.genesis_value))
            seq = 1
        elif chain.previous_topic and leads:
            entry = self.rules.epoch_entry(verdict, seq, prev, chain.previous_topic)
            value, digest = self.rules.epoch_value(chain.previous_topic), entry_hash(entry)
            demands.append(Demand(chain, verdict, True, seq, prev, entry, digest, value))
            seq, prev = seq + 1, digest
        entry = self.rules.entry(verdict, seq, prev)
        demands.append(Demand(chain, verdict, False, seq, prev, entry, entry_hash(entry), verdict.value))
        return demands

    def _accept(self, record: ChainedRecord, demand: Demand, outcome: Outcome) -> None:
        self._pass(demand, outcome)
        chain = demand.chain
        chain.other = None
        chain.missing = False
        outcome.kinds[demand.kind] += 1
        if demand.kind in PUBLISHED_KINDS and not chain.open:
            traceparent = () if record.traceparent is None else ((TRACEPARENT_HEADER, record.traceparent),)
            outcome.published.append((
                demand.chain.name, demand.value, (SEAL_ENTRY_HEADER, demand.entry), demand.seq, demand.digest,
                demand.prev, demand.verdict.event_id, traceparent,
            ))  # fmt: skip

    def _pass(self, demand: Demand, outcome: Outcome) -> None:
        """Move on behind the first demand, as if it had been met."""
        self._demands.popleft()
        demand.chain.head = Head(demand.seq + 1, demand.digest)
        outcome.touched[demand.chain.name] = demand.chain
        if demand.leads:
            demand.chain.previous_topic = b""
            return
        if demand.verdict.kind is Kind.GAP:
            self.source_position = parse_gap_payload(demand.value)[1] + 1
            return
        self.rules.settle(demand.verdict, demand.seq)
        self.source_position = demand.verdict.offset + 1

    # -- where the log and the rules disagree --------------------------------------------------------------------------

    def _disagree(self, record: ChainedRecord, demand: Demand | None, ahead: Ahead, outcome: Outcome) -> bool:
        """Decide what is wrong, and return whether the record is dealt with; otherwise it is to be checked again."""
        digest = entry_hash(record.entry or b"")
        if digest in self.delayed:  # was reported when it was not at its place
            del self.delayed[digest]
            self._go_on_from(claim_of(record), digest)
            return True
        if self._follow_other(record, demand, outcome) or self._go_behind_gap(record, demand, ahead):
            return False
        claim = claim_of(record)
        if demand is None or (demand.verdict.kind is not Kind.GAP and self._declares_gap(record, claim, ahead)):
            self._extra(record, claim, digest, outcome)
            return True
        if record.entry == demand.entry:
            self._instead(record, claim, demand, outcome)
            return True
        if self._is_ahead(record, claim, demand):
            self._missing(demand, _later(demand, ahead), outcome)
            return False
        if _later(demand, ahead) is None and (_stands_for(record, claim, demand) or ahead.goes_on()):
            self._instead(record, claim, demand, outcome)
        else:
            self._extra(record, claim, digest, outcome)
        return True

    def _go_behind_gap(self, record: ChainedRecord, demand: Demand | None, ahead: Ahead) -> bool:
        """Demand the entry of a range that is declared lost, if the range is what the source has lost.

        Returns:
            Whether the record is to be checked again, against that.
        """
        if demand is not None and demand.verdict.kind is Kind.GAP:
            return False  # it was demanded, and is not what it must be
        rules = self.rules
        here = begins_for(record, topic_id=rules.topic_id, partition=rules.partition)
        claimed = record if here is None else ahead.following()
        gap = None if claimed is None else declared(claimed, topic_id=rules.topic_id, partition=rules.partition)
        if gap is None or (here is not None and here != gap.verdict.offset):
            return False
        start = self._source.start() if gap.verdict.offset == self.source_position else 0
        if start <= gap.last:
            return False  # not what follows on the last verified record, or still there to be read
        behind, wanted = self._behind(gap, demand), gap.verdict
        # Only while the range ends where the source begins is its first record the one that gives the time.
        if start == gap.last + 1 and behind is not None and wanted.received != 0:
            wanted = wanted._replace(received=behind.received)
        self._demand_gap(wanted, behind)
        return True

    def _declares_gap(self, record: ChainedRecord, claim: Entry | None, ahead: Ahead) -> bool:
        """Return whether a record declares a range lost, or begins the chain for one that does: in no other's place."""
        if claim is None or begins_for(record, topic_id=self.rules.topic_id, partition=self.rules.partition) is None:
            return claim is not None and claim.kind is Kind.GAP
        following = ahead.following()
        behind = None if following is None else claim_of(following)
        return behind is not None and behind.kind is Kind.GAP

    def _behind(self, gap: Declared, demand: Demand | None) -> Verdict | None:
        """Return what the rules say of the first source record behind a gap, if there is one; it is taken."""
        if demand is not None and demand.verdict.offset > gap.last:
            return demand.verdict
        self._demands.clear()  # read before it was lost
        self._source.skip_to(gap.last + 1)
        source = self._source.ready() or (self._source.wait(-1) if gap.verdict.received else None)
        return None if source is None else self.rules.judge(source)

    def _demand_gap(self, gap: Verdict, behind: Verdict | None) -> None:
        """Demand the entry of a gap, and then what the record behind it must become."""
        chain_of_gap = self._chain_of(gap)
        self._demands.clear()
        self._demands.extend(self._demands_of(chain_of_gap, gap, chain_of_gap.head))
        if behind is not None:
            chain, last = self._chain_of(behind), self._demands[-1]
            goes_on = chain is last.chain
            head = Head(last.seq + 1, last.digest) if goes_on else chain.head
            self._demands.extend(self._demands_of(chain, behind, head, leads=not goes_on))

    def _chain_of(self, verdict: Verdict) -> Chain:
        chain = self.chains.get(verdict.chain)
        if chain is None:
            chain = Chain(verdict.chain)
            self.chains.put(chain)
        return chain

    def _follow_other(self, record: ChainedRecord, demand: Demand | None, outcome: Outcome) -> bool:
        """Go on from what was found at fault, if that is how the log goes on."""
        other = None if demand is None else demand.chain.other
        if demand is None or other is None:
            return False
        chain = demand.chain
        others = self._demands_of(chain, demand.verdict, other)
        if not others[0].met_by(record):
            return False
        if chain.missing:  # so the missing records never were in the chain
            self.rules.window.forget(chain.name, other.seq)
        chain.head, chain.other = other, None
        outcome.touched[chain.name] = chain
        self._demands.clear()
        self._demands.extend(others)
        return True

    def _is_ahead(self, record: ChainedRecord, claim: Entry | None, demand: Demand) -> bool:
        """Return whether a record stands for a source record behind the demanded one, which is then not at its place.

        It is believed only if the source really has such a record: an invented offset must not make everything before
        it count as missing.
        """
        at = demand.verdict.offset
        if claim is not None and claim.offset == at and self.rules.is_here(claim):
            is_entry = claim.kind not in _LEADING
            return demand.leads and is_entry and claim.tenant.encode() == demand.chain.name
        if claim is not None and claim.offset > at and self._is_credible(claim):
            return True
        # Its offset may be what was forged, or its whole entry: then its payload tells what it stands for.
        digests = {payload_digest(record.value or b"")}
        if claim is not None:
            digests.add(claim.payload)
        if demand.verdict.digest in digests:
            return False
        upcoming = islice(self._source.upcoming(), LOOKAHEAD_RECORDS)
        return any(source.value and payload_digest(source.value) in digests for source in upcoming)

    def _is_credible(self, claim: Entry) -> bool:
        """Return whether the source has the record that an entry says it stands for."""
        source = self._source.find(claim.offset)
        if source is None:
            return False
        is_chain = claim.tenant.encode() in (source.key, self.rules.partition_chain)
        same_time = is_chain and self.rules.is_here(claim) and claim.received == (source.received or 0)
        return same_time or claim.payload == payload_digest(source.value or b"")

    def _missing(self, demand: Demand, later: bytes | None, outcome: Outcome) -> None:
        """The demanded record is not at its place: it comes later, as this entry, or not at all."""
        chain, place = demand.chain, demand.verdict.offset
        before = Head(demand.seq, demand.prev)
        if later is not None:
            if len(self.delayed) < DELAYED_ENTRIES_MAX:
                self.delayed[entry_hash(later)] = None
            message = "the entry stands behind others that should follow it"
            self.report(
                Finding(ViolationType.REORDERED, chain.name.decode(), demand.seq, place, message), chain, outcome
            )
        else:
            if not chain.missing:  # a run of missing records is one violation, named by its first
                what = (
                    f"the {demand.kind.name.lower()} is missing" if demand.leads else "the source record is not chained"
                )
                self.report(Finding(ViolationType.GAP, chain.name.decode(), demand.seq, place, what), chain, outcome)
            chain.missing = True
        self._pass(demand, outcome)
        if later != demand.entry and chain.other is None:
            chain.other = before

    def _instead(self, record: ChainedRecord, claim: Entry | None, demand: Demand, outcome: Outcome) -> None:
        """Another record stands in the place of the demanded one."""
        if demand.leads and claim is not None and not self.chains.begun:
            self._compare_first_genesis(record, claim)
        self.report(instead(record, claim, demand), demand.chain, outcome)
        self._pass(demand, outcome)
        if claim is not None and claim.tenant.encode() != demand.chain.name:
            demand.chain.other = Head(demand.seq, demand.prev)  # nothing was added to this chain, but to the other one
            self._intrude(claim, entry_hash(record.entry or b""), outcome)
        elif record.entry is not None and record.entry != demand.entry:
            seq = demand.seq if claim is None else claim.seq
            demand.chain.other = Head(seq + 1, entry_hash(record.entry))

    def _intrude(self, claim: Entry, digest: bytes, outcome: Outcome) -> None:
        """An entry that stands for another chain's record has been added to a chain of this partition."""
        chain = self._go_on_from(claim, digest)
        if chain is not None:
            message = "the entry stands for a source record of another chain"
            self.report(Finding(ViolationType.FOREIGN, claim.tenant, claim.seq, claim.offset, message), chain, outcome)

    def _go_on_from(self, claim: Entry | None, digest: bytes) -> Chain | None:
        """Let a chain go on from an entry that is at fault, if that continues it, and return the chain then."""
        chain = None if claim is None else self.chains.get(claim.tenant.encode())
        if claim is None or chain is None or chain.other is not None or (claim.seq, claim.prev) != chain.head:
            return None
        chain.other = Head(claim.seq + 1, digest)
        return chain

    def _extra(self, record: ChainedRecord, claim: Entry | None, digest: bytes, outcome: Outcome) -> None:
        """No source record demands a record here."""
        name = (record.key or b"") if claim is None else claim.tenant.encode()
        belongs = self.rules.belongs(name)
        if claim is None and not belongs:
            name, belongs = self.rules.partition_chain, True
        chain = self.chains.get(name)
        if chain is None and belongs:
            chain = Chain(name)
            self.chains.put(chain)
        finding = extra(
            record,
            claim,
            tenant=name.decode(),
            topic_id=self.rules.topic_id,
            partition=self.rules.partition,
            belongs=belongs,
            next_seq=0 if chain is None else chain.head.seq,
        )
        self.report(finding, chain, outcome)
        self._go_on_from(claim, digest)

    def _compare_first_genesis(self, record: ChainedRecord, claim: Entry) -> None:
        """A verifier that has verified nothing yet and meets another genesis is more likely set up wrongly."""
        value = record.value or b""
        try:
            found = Genesis.parse(value)
        except EntryInvalid:
            return
        if claim.kind is Kind.GENESIS and payload_digest(value) == claim.payload and found != self.rules.genesis:
            raise InstanceDiffers(
                f"the chains pin {found}, and this verifier is set up for {self.rules.genesis}",
                hint="give the verifier the instance, partitions and window of the processor",
            )

    def _check_clock(self, demand: Demand, latest: int, outcome: Outcome) -> None:
        """Warn once when the brokers' time runs ahead of ours, and again only after it has been right."""
        ahead = demand.verdict.received > latest
        if ahead and not self._clock_ahead:
            message = "the time received lies beyond the present: a broker's clock runs ahead, or this machine's behind"
            finding = Finding(
                ViolationType.CLOCK,
                demand.chain.name.decode(),
                demand.seq,
                demand.verdict.offset,
                message,
                expected=f"at most {latest}",
                found=str(demand.verdict.received),
            )
            outcome.violations.append(self.violation(finding, Severity.WARNING))
        self._clock_ahead = ahead

    def report(self, finding: Finding, chain: Chain | None, outcome: Outcome) -> None:
        """Add a violation to an outcome and stop its chain's verified feed."""
        violation = self.violation(finding)
        if chain is not None:
            outcome.touched[chain.name] = chain
            if len(chain.open) >= OPEN_VIOLATIONS_MAX:
                chain.unreported += 1
                return
            chain.open.append(violation.id)
        outcome.violations.append(violation)

    def violation(self, finding: Finding, severity: Severity = Severity.VIOLATION) -> Violation:
        """Return a finding as it is recorded."""
        return Violation(
            type=finding.type,
            tenant=finding.tenant,
            message=finding.message,
            seq=finding.seq,
            partition=self.rules.partition,
            offset=finding.offset,
            topic_id=self.rules.topic_id,
            instance=self.rules.genesis.instance,
            expected=finding.expected,
            found=finding.found,
            severity=severity,
        )


def _later(demand: Demand, ahead: Ahead) -> bytes | None:
    """Return the entry behind the current record that is the demanded one, or that is it at another place."""
    return demand.entry if ahead.holds(demand.entry) else ahead.relinked(demand.entry)


def _stands_for(record: ChainedRecord, claim: Entry | None, demand: Demand) -> bool:
    """Return whether a record claims the demanded one's place: by its source record, by its seq, or by its key."""
    if claim is None:
        return record.key == demand.chain.name
    if demand.leads != (claim.kind in _LEADING):
        return False
    wanted = (demand.chain.name, demand.seq)
    return claim.offset == demand.verdict.offset or (claim.tenant.encode(), claim.seq) == wanted
