"""`sealstream verify` against what the notary itself publishes, round by round, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sealstream.schemas.entry import Quarantine
from sealstream.sinks.verifier.audit import VerifyResult, verify_store
from sealstream.sinks.verifier.levels import Level
from sealstream.sinks.verifier.published import Against
from support.notarised import SECRET
from support.notarising import POLICY, Log, open_log


@pytest.fixture
def log(database_url: str, tmp_path: Path) -> Iterator[Log]:
    """A store and its notary."""
    with open_log(database_url, tmp_path) as found:
        yield found


def _verify(log: Log) -> VerifyResult:
    against = Against(
        policy=POLICY.encode(), storage=str(log.directory), notary_database=log.notary_url, map_secret=SECRET
    )
    return verify_store(log.reader_url, against=against, require=Level.CHECKPOINT)


def test_what_the_notary_publishes_is_what_verify_takes(log: Log) -> None:
    """Rounds with and without news, holes in the source, growth behind the last round: all clean; and then an older
    store is named.
    """
    notary = log.notary()
    first = [*log.chains.events(5, 60), *log.chains.quarantined("!partition-1", Quarantine.NO_KEY)]
    log.feed(first)
    for _ in range(2):
        assert log.round(notary)
        found = _verify(log)
        assert (found.exit_code, found.level) == (0, Level.CHECKPOINT), (found.failure, found.violations)
    log.chains.offsets[2] += 5  # offsets that no reader of committed records sees
    more = log.chains.events(7, 30)
    log.feed(more)
    assert _verify(log).growth == len(more)
    assert log.round(notary)
    log.feed(log.chains.events(5, 10))
    found = _verify(log)
    assert (found.exit_code, found.growth) == (0, 10), (found.failure, found.violations)

    log.test_store.clear()
    log.feeder.claim()
    log.feeder.feed(first[:50])

    assert {v.type.value for v in _verify(log).violations} == {"rollback"}


def test_rounds_that_cannot_take_all_are_clean(log: Log) -> None:
    """A notary that catches up in small rounds: what it has not come to yet is growth, in any order of partitions."""
    notary = log.notary(entries_max=16)
    log.feed(log.chains.events(5, 60))
    growth: list[int] = []
    while not growth or growth[-1]:
        assert log.round(notary)
        found = _verify(log)
        assert (found.exit_code, found.level) == (0, Level.CHECKPOINT), (found.failure, found.violations)
        growth.append(found.growth)

    assert growth == sorted(growth, reverse=True)
    assert len(growth) > 3
