"""A notary that lies, against the judge of the verifier's witness: Kafka and the verifier's word are in memory here.

The same lies are told on the real stack by `tests/fault/test_attacks.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sealstream.schemas.errors import CheckpointRefused
from sealstream.schemas.violation import ROOT_LOG
from sealstream.sinks.witness.recomputing.refusal import Refusal
from support.chained import Chains
from support.malicious import notary as lies
from support.malicious.notary import Truth
from support.recomputing import PARTITIONS, TOPIC_ID, MemoryJudge, by_partition, word_of
from support.rounds import SECRET, PlainRound, make_round

TENANT = "acme"
LIES: dict[Callable[[Truth, str], PlainRound], tuple[str, str, int | None]] = {
    lies.entry_left_out: ("gap", TENANT, 6),
    lies.offset_hidden: ("gap", TENANT, 6),
    lies.chain_not_grown: ("truncated", TENANT, 4),
    lies.chain_shrunk: ("fork", ROOT_LOG, 1),
    lies.chain_dropped: ("truncated", TENANT, 0),
    lies.chain_invented: ("foreign", ROOT_LOG, 1),
    lies.round_skipped: ("gap", ROOT_LOG, 1),
    lies.round_of_another_past: ("fork", ROOT_LOG, 1),
    lies.loss_invented: ("edited", "!partition-0", None),
    lies.miscounted: ("edited", "!partition-0", None),
    lies.offsets_left_out: ("gap", "!partition-0", None),
    lies.offsets_twice: ("fork", "!partition-0", None),
    lies.other_names: ("fork", ROOT_LOG, 1),
}


@pytest.fixture(scope="module")
def truth() -> Truth:
    """A log in which the tenant and others stand in partition 0, some offsets nobody sees, and one round of it."""
    chains = Chains(partitions=PARTITIONS)
    records = [record for n in range(3) for record in chains.event(TENANT, f"a-{n}")]
    assert records[0].partition == 0
    cut = {0: chains.offsets[0]}
    chains.offsets[0] += 2
    records += [record for n in range(6) for record in chains.event(f"t-{n % 3}", f"b-{n}")]
    records += [record for n in range(3) for record in chains.event(TENANT, f"c-{n}")]
    entries = by_partition(records)
    return Truth(entries, TOPIC_ID, (make_round(entries, cut, topic_id=TOPIC_ID),), SECRET)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_is_refused_and_named(truth: Truth, lie: Callable[[Truth, str], PlainRound]) -> None:
    """Each lie is refused as what it is, with chain and place, and the true round is accepted behind it."""
    judge = MemoryJudge(truth.entries, word_of(truth.entries))
    judge.judge(list(truth.before))

    with pytest.raises(Refusal) as refused:
        judge.judge([*truth.before, lie(truth, TENANT)])

    assert isinstance(refused.value.error, CheckpointRefused)
    violation = refused.value.violation
    assert violation is not None
    assert (violation.type.value, violation.tenant, violation.seq) == LIES[lie]
    judge.judge([*truth.before, truth.round()])
