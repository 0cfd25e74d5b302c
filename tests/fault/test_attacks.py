"""The attack table: what everybody can do who is not trusted with everything, and who must say so.

Each row is performed on the real stack. Everybody who could notice looks, and what they report must be exactly what the
row says: the type, the chain, the place in it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from support.attacks import database, keys
from support.attacks.attack import Attack, StageT
from support.attacks.recorded import Copies

pytestmark = pytest.mark.fault


def _rows(rows: tuple[Attack[StageT], ...], *telling: str) -> list[ParameterSet]:
    """Return rows as parameters; those named are the telling ones."""
    assert {row.name for row in rows} >= set(telling)
    marks = dict.fromkeys(telling, (pytest.mark.telling,))
    return [pytest.param(row, id=row.name, marks=marks.get(row.name, ())) for row in rows]


def _check(attack: Attack[StageT], stage: StageT) -> None:
    """Perform an attack, and compare all that was reported with what must be."""
    assert sorted(attack.perform(stage), key=repr) == sorted(attack.reports, key=repr)


@pytest.fixture(scope="module")
def thief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[keys.ThiefStage]:
    """An auditor and a witness, whom a thief of one key tries to convince."""
    stage = keys.ThiefStage(tmp_path_factory.mktemp("thief"))
    yield stage
    stage.close()


@pytest.mark.parametrize(
    "attack",
    _rows(
        keys.ROWS,
        "log key signs a fork",
        "log key and one witness key, rotated to count twice",
        "old log key names a follower of its own",
        "log key and old witness keys, backdated",
    ),
)
def test_thief_of_a_key(attack: Attack[keys.ThiefStage], thief: keys.ThiefStage) -> None:
    """What a stolen key signs is believed by nobody who has a quorum, and refused by who has seen the true log."""
    _check(attack, thief)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "attack",
    _rows(
        database.ROWS,
        "nothing",
        "edits and chains anew",
        "restores an older store",
        "edits before a round covers it, and chains anew",
    ),
)
def test_owner_of_a_database(attack: Attack[Copies], copies: Copies) -> None:
    """What somebody changes in the databases, whose every row he can write, is named with its type, chain and place."""
    _check(attack, copies)
