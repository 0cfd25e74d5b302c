"""A proof server that lies, against an auditor who fetches a file and judges it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.attacks.auditor import Auditor
from support.malicious.proofs import with_payload, with_suite
from support.malicious.served import fetch, lying_server
from support.notes import NOW_SECONDS, ORIGIN, policy
from support.sealproofs import INSTANCE, with_earlier

ASKED = ("--instance", ORIGIN, "--tenant", "acme", "--event", "ev-15")
TRUE = with_earlier().pack()
LIES = {
    "nothing": b"",
    "a page": b"<html>please log in</html>",
    "half of it": TRUE[: len(TRUE) // 2],
    "more behind it": TRUE + b"\n",
    "another suite": with_suite(with_earlier(), 9),
    "another payload": with_payload(with_earlier(), "x").pack(),
    "another event": INSTANCE.proof(16).pack(),
    "another tenant": INSTANCE.proof(1, name="globex").pack(),
}


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    """An auditor who knows what he asks for."""
    return Auditor(tmp_path / "auditor", policy(), NOW_SECONDS)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_with_its_type(auditor: Auditor, lie: str) -> None:
    """Whatever is given out instead of what was asked for is one typed error, and never taken for it."""
    with lying_server(lambda _path: (200, LIES[lie])) as url:
        judged = auditor.proof(fetch(f"{url}/proof"), *ASKED, alone=False)

    assert [report.type for report in judged.reports] != []


def test_the_truth_is_taken(auditor: Auditor) -> None:
    """The proof that was asked for is believed, also from a server that lies at other times."""
    with lying_server(lambda _path: (200, TRUE)) as url:
        judged = auditor.proof(fetch(f"{url}/proof"), *ASKED, alone=False)

    assert judged.reports == []
    assert (judged.shown["tenant"], judged.shown["event_id"]) == ("acme", "ev-15")
