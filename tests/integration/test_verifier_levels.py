"""`sealstream verify` against what was published, on a real PostgreSQL: what a chain alone cannot show is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sealstream.sinks.verifier.audit import VerifyResult
from sealstream.sinks.verifier.levels import Level
from support.compared import Compared, compared
from support.providers import fresh_database
from support.stores import migrated

TENANTS = ("acme", "globex", "initech", "umbrella")


@pytest.fixture
def notary_url(database_server: str) -> Iterator[str]:
    """The URL of a second empty database."""
    with fresh_database(database_server) as url:
        yield url


@pytest.fixture
def instance(database_url: str, notary_url: str, tmp_path: Path) -> Iterator[Compared]:
    """Three rounds of four tenants, and a few entries behind them."""
    with migrated(database_url) as store, compared(store, tmp_path / "log", notary_url) as made:
        made.append(*TENANTS, count=5)
        made.publish()
        made.append(*TENANTS, count=5, skip=1)
        made.publish()
        made.append("acme", "globex", count=4)
        made.publish()
        made.append("acme", "globex", "late", count=2)
        yield made


def _found(result: VerifyResult) -> list[tuple[str, str, int | None]]:
    return [(v.type.value, v.tenant, v.seq) for v in result.violations]


def test_a_right_store_reaches_the_checkpoints_level(instance: Compared) -> None:
    """All that a quorum's checkpoint covers holds; what was stored behind it is counted apart, and no finding."""
    result = instance.verify(require=Level.WITNESSED)

    assert (result.failure, _found(result), result.exit_code) == (None, [], 0)
    assert (result.level, result.growth) == (Level.WITNESSED, 2 + 2 + 3)
    assert result.checked_through == {"acme": 14, "globex": 14, "initech": 10, "umbrella": 10}
    assert result.as_of.timestamp() == instance.seconds(3)
    assert any("behind the checkpoint" in words for words in result.not_excluded)
