"""Processor and verifier share no code, and both turn the partition in SPEC.md into the entries given there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sealstream.processors.chaining import PartitionState, Rules, chain
from sealstream.processors.heads import PackedHeads
from sealstream.schemas.entry import ZERO_HASH, Entry, Genesis, entry_hash, parse
from sealstream.sinks.verifier.rules import Rules as VerifierRules
from sealstream.sinks.verifier.rules import SourceRecord
from support import spec
from support.records import MessageLike

TOPIC_ID = bytes(range(16))
GENESIS = Genesis.parse("".join(spec.blocks("genesis")).encode())


def specified() -> list[tuple[int, str, int, bytes]]:
    """Return offset, chain, seq and hash of each entry that the page gives, in order."""
    return [(link.offset, link.chain, link.seq, link.hash) for link in spec.links()]


def placed(entries: Iterator[bytes]) -> list[tuple[int, str, int, bytes]]:
    """Return offset, chain, seq and hash of entries."""
    parsed: Iterator[tuple[Entry, bytes]] = ((parse(data), data) for data in entries)
    return [(entry.offset, entry.tenant, entry.seq, entry_hash(data)) for entry, data in parsed]


@pytest.mark.parametrize("batch_records", [1, 2, 7, 1000])
def test_processor(batch_records: int) -> None:
    """The processor makes the entries given, however the records come in batches."""
    rules = Rules(GENESIS, TOPIC_ID)
    state = PartitionState(0, PackedHeads(), rules.window())
    records = spec.source_records()
    made: list[bytes] = []
    for start in range(0, len(records), batch_records):
        batch = [MessageLike(record) for record in records[start : start + batch_records]]
        made.extend(entry for _, _, entry, _ in chain(rules, state, batch).sealed)
    assert placed(iter(made)) == specified()


def test_verifier() -> None:
    """The verifier's own rules demand the entries given."""
    rules = VerifierRules(GENESIS, TOPIC_ID, 0)
    heads: dict[bytes, tuple[int, bytes]] = {}
    made: list[bytes] = []

    def append(chain: bytes, entry: bytes) -> None:
        made.append(entry)
        heads[chain] = (heads.get(chain, (0, ZERO_HASH))[0] + 1, entry_hash(entry))

    for record in spec.source_records():
        received = None if record.timestamp_ms is None else record.timestamp_ms * 1000
        verdict = rules.judge(SourceRecord(record.offset, record.key, record.value, received))
        if verdict.chain not in heads:
            append(verdict.chain, rules.genesis_entry(verdict))
        seq, prev = heads[verdict.chain]
        append(verdict.chain, rules.entry(verdict, seq, prev))
        rules.settle(verdict, seq)
    assert placed(iter(made)) == specified()
