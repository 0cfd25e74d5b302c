"""The verifier's README keeps to what there is."""

from __future__ import annotations

import re
from pathlib import Path

from sealstream.schemas.violation import ViolationType
from sealstream.worker import metrics

FOLDER = Path(__file__).parents[2] / "sinks" / "sealstream" / "sinks" / "verifier"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_type_of_violation_stands_in_it() -> None:
    """Each type has its line in the table, or is said not to be looked for."""
    assert {kind for kind in ViolationType if f"`{kind.value}`" not in TEXT} == set()


def test_every_module_that_it_names_is_there() -> None:
    """Whoever looks a module up finds it."""
    named = set(re.findall(r"`(\w+\.py)`", TEXT))

    assert named
    assert {name for name in named if not (FOLDER / name).exists()} == set()


def test_the_metrics_that_it_names_are_in_the_catalogue() -> None:
    """The prefix that it gives is that of the verifier's metrics."""
    assert "`sealstream_verifier_*`" in TEXT
    assert b"sealstream_verifier_violations_total" in metrics.exposition()
