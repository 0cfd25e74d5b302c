"""The verifier against the processor: two implementations of the same rules, which share the entry's layout alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.processors.chaining import PartitionState, Rules, chain
from sealstream.processors.heads import PackedHeads
from sealstream.sinks.verifier.records import ChainedRecord
from sealstream.sinks.verifier.rules import SourceRecord
from support.model import SourceRecord as ModelRecord
from support.records import MessageLike
from support.source_logs import source_logs
from support.verifying import GENESIS, PARTITION, TOPIC_ID, verify_log


def _chained(source: list[SourceRecord], cuts: list[int]) -> list[ChainedRecord]:
    """Return what the processor makes of a source that it takes in batches of these sizes."""
    rules = Rules(GENESIS, TOPIC_ID)
    state = PartitionState(PARTITION, PackedHeads(), rules.window())
    log: list[ChainedRecord] = []
    rest = [
        MessageLike(
            ModelRecord(PARTITION, r.offset, r.key, r.value, None if r.received is None else r.received // 1000)
        )
        for r in source
    ]
    while rest:
        size = cuts.pop() if cuts else len(rest)
        batch, rest = rest[:size], rest[size:]
        for key, value, entry, traceparent in chain(rules, state, batch).sealed:
            log.append(ChainedRecord(len(log), key, value, entry, traceparent))
    return log


@given(source_logs(), st.lists(st.integers(1, 9), max_size=20), st.integers(1, 9))
@settings(max_examples=500, deadline=None)
def test_what_the_processor_chains_the_verifier_accepts(
    source: list[SourceRecord], cuts: list[int], batch: int
) -> None:
    """Whatever stands in the source, in whatever batches either takes it, both demand the same bytes."""
    log = _chained(source, cuts)

    verifier, outcome = verify_log(source, log, batch=batch)

    assert outcome.violations == []
    assert sum(outcome.kinds.values()) == len(log)
    assert verifier.source_position == (source[-1].offset + 1 if source else 0)
