"""Policies: read as C2SP says, and a quorum is exactly what its groups say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.errors import PolicyInvalid
from sealstream.schemas.note_key import KeyType
from sealstream.schemas.policy import LOGS_MAX, NAMES_MAX, POLICY_BYTES_MAX, Group, Log, Policy, Witness
from support.notes import LOG, ORIGIN, policy, signer, witness

KEYS = {f"{letter}{number}": witness(10 * place + number).verifier for place, letter in enumerate("XY")
        for number in (1, 2, 3)}  # fmt: skip
# The example of C2SP tlog-policy, with keys of ours.
EXAMPLE = "".join(
    [
        f"log {LOG.verifier}\n\n",
        *(f"witness {name} {key}\n" for name, key in KEYS.items()),
        "group X-witnesses 2 X1 X2 X3\n",
        "group Y-witnesses any Y1 Y2 Y3\n",
        "group X-and-Y all X-witnesses Y-witnesses\n",
        "quorum X-and-Y\n",
    ]
)


def test_example() -> None:
    """The specification's example asks for two of the first three witnesses and one of the others."""
    read = Policy.parse(EXAMPLE.encode())
    assert [log.key for log in read.logs] == [LOG.verifier]
    assert [one.name for one in read.witnesses] == list(KEYS)
    for size in range(7):
        for chosen in itertools.combinations(KEYS, size):
            expected = sum(name[0] == "X" for name in chosen) >= 2 and any(name[0] == "Y" for name in chosen)
            assert read.satisfied(chosen) == expected


@given(st.lists(st.sampled_from(range(1, 9)), unique=True), st.integers(1, 8), st.integers(1, 8))
def test_threshold(chosen: list[int], witnesses: int, threshold: int) -> None:
    """Of one group, the quorum is so many of its members, whoever else has cosigned."""
    known = policy(witnesses, min(threshold, witnesses))
    counted = [number for number in chosen if number <= witnesses]
    assert known.satisfied([f"W{number}" for number in chosen]) == (len(counted) >= min(threshold, witnesses))


def test_names_of_groups_do_not_count_as_witnesses() -> None:
    """Whoever calls itself like a group is no quorum."""
    assert not policy(3, 2).satisfied(["all-of-them", "nobody"])


def test_no_quorum() -> None:
    """`none` asks for nothing; a single witness can be the quorum."""
    assert policy(0).satisfied([])
    single = replace(policy(2, 1), groups=(), quorum="W2")
    assert (single.satisfied(["W1"]), single.satisfied(["W2"])) == (False, True)


def test_layout_is_free() -> None:
    """Blanks, tabs, empty lines, comments and bytes that are no UTF-8 do not matter; names are bytes."""
    text = (
        b"# a comment\n  \t\n\twitness  K\t" + str(KEYS["X1"]).encode() + b" \n"
        b"witness \xe2\x84\xaa " + str(KEYS["X2"]).encode() + b" https://w.example/\xff\n"
        b"  # another\nwitness \xff " + str(KEYS["X3"]).encode() + b"\n"
        b"group g all K \xff \xe2\x84\xaa\nlog " + str(LOG.verifier).encode() + b" https://log.example\nquorum g\n"
    )
    read = Policy.parse(text)
    assert [one.name for one in read.witnesses] == ["K", "\u212a", "\udcff"]
    assert (read.logs[0].url, read.witnesses[1].url) == ("https://log.example", "https://w.example/\udcff")
    assert not read.satisfied(["K", "K", "\udcff"])
    assert read.satisfied(["K", "\u212a", "\udcff"])
    assert Policy.parse(read.pack()) == read


@pytest.mark.parametrize("witnesses", [0, 1, 5])
def test_comes_back(witnesses: int) -> None:
    """What is written is read."""
    known = policy(witnesses, 1)
    assert Policy.parse(known.pack()) == known


def test_cut_anywhere() -> None:
    """A policy whose last line is its quorum is refused wherever it was cut."""
    data = policy().pack()
    for size in range(len(data)):
        with pytest.raises(PolicyInvalid):
            Policy.parse(data[:size])


@given(st.data())
def test_changed_anywhere(data: st.DataObject) -> None:
    """A changed byte gives another policy or none, never another kind of error, and never the same policy."""
    packed = policy().pack()
    place = data.draw(st.integers(0, len(packed) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != packed[place]))
    try:
        changed = Policy.parse(packed[:place] + bytes((byte,)) + packed[place + 1 :])
    except PolicyInvalid:
        return
    # A tab is as good as a blank; everything else says something.
    assert (changed == policy()) == ({byte, packed[place]} == {0x09, 0x20})


@given(st.binary(max_size=200) | st.text(alphabet="logquruminesw 123any\t\n#", max_size=200).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, they are a policy or refused with a reason."""
    try:
        Policy.parse(data)
    except PolicyInvalid as error:
        reason = error.message
    else:
        reason = "none"
    assert reason


COSIGNER, ML_DSA = signer(ORIGIN, KeyType.COSIGNATURE), signer("m.example", KeyType.COSIGNATURE_ML_DSA_44)
SAME_KEY = LOG.renamed("other.example").verifier
W1 = f"witness W1 {KEYS['X1']}\n"
QUORUM = "quorum none\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "newline"),
        ("quorum none", "newline"),
        ("# nothing\n", "no quorum"),
        (W1, "no quorum"),
        (QUORUM * 2, "line 2: a second quorum"),
        ("quorum W1\n" + W1, "line 1: .*no line before"),
        ("quorum\n", "no definition"),
        ("quorum none none\n", "no definition"),
        ("Quorum none\n", "no definition"),
        ("log\n", "no definition"),
        (f"log {LOG.verifier} a b\n", "no definition"),
        ("log nonsense\n", "of the form"),
        (f"log {COSIGNER.verifier}\n", "cosigner"),
        (f"log {LOG.verifier}\nlog {SAME_KEY}\n", "line 2: .*twice"),
        (f"witness none {KEYS['X1']}\n", "taken"),
        (W1 + W1.replace(str(KEYS["X1"]), str(KEYS["X2"])), "line 2: .*taken"),
        (W1 + W1.replace("W1", "W2"), "line 2: .*count twice"),
        (f"witness W1 {LOG.verifier}\n", "makes no cosignatures"),
        ("witness W1\n", "no definition"),
        (W1 + "group g 0 W1\n", "neither any, all nor a number"),
        (W1 + "group g 01 W1\n", "neither"),
        (W1 + "group g 2 W1\n", "asks for 2 of 1"),
        (W1 + "group g 1\n", "no definition"),
        (W1 + "group g 1 g\n", "no line before"),
        (W1 + "group g any W1 W1\n", "count twice"),
        (W1 + "group g any W1\ngroup h any W1\n", "line 3: .*count twice"),
        (W1 + "group W1 any W1\n", "taken"),
        (W1 + "group g any none\n", "no line before"),
        ("quorum none\r\n", "0x0d at 11"),
        ("\x7f\n", "0x7f at 0"),
    ],
)
def test_reasons(text: str, words: str) -> None:
    """What is wrong is said, with its line."""
    with pytest.raises(PolicyInvalid, match=words):
        Policy.parse(text.encode())


def test_ml_dsa_keys_are_for_both() -> None:
    """A key of ML-DSA-44 can be a log's as well as a witness's."""
    read = Policy.parse(f"log {ML_DSA.verifier}\nwitness W {ML_DSA.verifier}\nquorum W\n".encode())
    assert read.logs[0].key == read.witnesses[0].key == ML_DSA.verifier


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Policy((), (Witness("a b", KEYS["X1"]),), (), "none"),
        lambda: Policy((), (Witness("", KEYS["X1"]),), (), "none"),
        lambda: Policy((), (Witness("a\nb", KEYS["X1"]),), (), "none"),
        lambda: Policy((), (Witness("a", KEYS["X1"], "two words"),), (), "none"),
        lambda: Policy((Log(LOG.verifier, "a\n"),), (), (), "none"),
        lambda: Policy((), (), (Group("g", 1, ()),), "none"),
        lambda: Policy((), (), (), "nobody"),
    ],
)
def test_only_policies_are_made(wrong: object) -> None:
    """What would not be read cannot be made."""
    assert callable(wrong)
    with pytest.raises(PolicyInvalid):
        wrong()


def test_limits() -> None:
    """No policy keeps a reader busy, and one of 32 logs, 32 witnesses and 32 groups is far from the limits."""
    with pytest.raises(PolicyInvalid, match="at most"):
        Policy.parse(b"#" * POLICY_BYTES_MAX + b"\n")
    logs = tuple(Log(signer(f"{number}.example").verifier) for number in range(LOGS_MAX + 1))
    with pytest.raises(PolicyInvalid, match="more than 256 logs"):
        Policy(logs, (), (), "none")
    witnesses = tuple(Witness(f"W{number}", witness(number).verifier) for number in range(NAMES_MAX + 1))
    with pytest.raises(PolicyInvalid, match="more than 512"):
        Policy((), witnesses, (), "none")
    groups = tuple(Group(f"g{one.name}", 1, (one.name,)) for one in witnesses[:32])
    large = Policy(logs[:32], witnesses[:32], groups, "gW31")
    assert Policy.parse(large.pack()).satisfied(["W31"])
