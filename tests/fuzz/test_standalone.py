"""The auditors' file where its reader's own policy is at fault: it believes no more than we do."""

from __future__ import annotations

import pytest

from fuzz.evidence import STANDALONE
from sealstream.schemas.errors import PolicyInvalid
from sealstream.schemas.policy import Policy
from support.notes import NOW_SECONDS, policy
from support.sealproofs import INSTANCE


@pytest.mark.parametrize("least", [b"0", b"00", b"-1", b"+0", b"x", b"3"])
def test_a_group_that_nobody_fills(least: bytes) -> None:
    """A group that asks for none of its members, or for more than there are, makes no quorum of nobody."""
    text = policy(2, 2).pack().replace(b"all-of-them 2", b"all-of-them " + least)
    alone = INSTANCE.proof(10, note=INSTANCE.note(3, {})).pack()

    with pytest.raises(PolicyInvalid):
        Policy.parse(text)
    with pytest.raises((STANDALONE.UnprovenError, ValueError)):
        STANDALONE.Proof(alone, STANDALONE.Policy(text.decode(), b""), NOW_SECONDS, b"", [None, None])
