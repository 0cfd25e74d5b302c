"""A bundle holds as a whole or not at all: every change is found, and named where it can be named."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sealstream.schemas.bundle import BundleEnd, BundleEntry, BundleHead, pack_line, parse_line
from sealstream.schemas.bundle_check import BundleResult, verify_bundle
from sealstream.schemas.entry import Kind, Quarantine, entry_hash, pack, parse
from sealstream.schemas.errors import (
    BundleInvalid,
    EventDiffers,
    EvidenceDamaged,
    EvidenceInvalid,
    NotYetProvable,
    OriginDiffers,
    PolicyInvalid,
    QuorumMissing,
    SignatureInvalid,
    SignatureMissing,
    StoreDamaged,
    StoreError,
)
from sealstream.schemas.evidence import ProofLevel
from sealstream.schemas.policy import Policy
from sealstream.schemas.trust import Reader
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.proofs.writer_schemas import WriterSchemas
from support.chained import INSTANCE
from support.memory_notary import NOW_SECONDS, policy, reader
from support.notes import policy as other_policy
from support.provable import Provable, provable


@pytest.fixture(scope="module")
def instance() -> Provable:
    """Three rounds; acme has 600 entries in the last one."""
    return provable()


def check(bundle: bytes, judge: Reader | None = None, **options: Any) -> BundleResult:
    """Check a bundle."""
    return verify_bundle(io.BytesIO(bundle).readline, judge or reader(), **options)


def lines_of(bundle: bytes) -> list[bytes]:
    """Return a bundle's lines."""
    return bundle.splitlines(keepends=True)


def ended(lines: list[bytes]) -> bytes:
    """Return lines as a bundle whose last line is made to fit them, as a forger would."""
    body = lines[:-1]
    entries = sum(b'"type":"entry"' in line for line in body)
    return b"".join((*body, BundleEnd(entries, hashlib.sha256(b"".join(body)).digest()).pack()))


@pytest.mark.parametrize(("first", "last"), [(0, 599), (0, 0), (1, 2), (3, 3), (255, 257), (256, 511), (599, 599)])
def test_each_part_of_a_chain_holds(instance: Provable, first: int, last: int) -> None:
    """Whatever part of a chain is exported: it is complete, and a quorum of witnesses stands behind it."""
    bundle, exported = instance.export("acme", first, last)
    result = check(bundle)
    assert (result.exit_code, result.failure, result.violations) == (0, None, [])
    assert (result.tenant, result.first, result.last, result.entries) == ("acme", first, last, last - first + 1)
    assert result.shown is not None
    assert result.shown.level is ProofLevel.WITNESSED
    assert exported.evidence == result.shown
    assert exported.size_bytes == len(bundle)


def test_it_is_looked_into_with_usual_tools(instance: Provable) -> None:
    """Each line is a JSON object; an entry's line says what it is without its bytes being decoded."""
    objects = [json.loads(line) for line in lines_of(instance.bundle("acme", 0, 2))]
    assert [one["type"] for one in objects] == ["bundle", "entry", "schema", "entry", "entry", "end"]
    assert [(one["seq"], one["kind"], one["event_id"]) for one in objects if one["type"] == "entry"] == [
        (0, "genesis", ""),
        (1, "event", "ev-1"),
        (2, "event", "ev-2"),
    ]
    assert objects[0]["note"].startswith("test.example/store\n")
    assert json.loads(objects[2]["schema"])["name"] == "AuditEvent"


def test_kinds_without_a_payload_have_none(instance: Provable) -> None:
    """Duplicates and quarantined records are in it without their bytes, which the log does not carry."""
    made = Provable()
    made.events("acme", "ev-1")
    made.duplicate("acme", "ev-1", ref=1)
    made.take(made.chains.quarantined("acme"))
    made.notary.round()
    bundle, exported = made.export("acme", 0, 3)
    assert (exported.entries, exported.payloads) == (4, 2)
    assert check(bundle).is_valid
    lines = lines_of(bundle)
    lines[4] = lines[4].replace(b'"payload":null', b'"payload":"AAAA"')
    assert [(one.type, one.seq) for one in check(ended(lines)).violations] == [(ViolationType.EDITED, 2)]
    assert instance is not None


def test_every_byte_counts() -> None:
    """Whichever byte of a bundle is changed, in whichever bit that was tried: it does not hold, and says so, typed."""
    made = Provable()
    made.fresh(schemas=_Short())
    made.events("acme", "ev-1", "ev-2")
    made.events("globex", "ev-1")
    made.notary.round()
    made.events("acme", "ev-3")
    made.notary.round()
    bundle = made.bundle("acme", 1, 2)
    assert check(bundle).is_valid
    for place in range(len(bundle)):
        changed = bytearray(bundle)
        changed[place] ^= 1 << place % 8
        result = check(bytes(changed))
        assert result.exit_code in (1, 2), place
        assert result.violations or result.failure is not None, place


class _Short(WriterSchemas):
    """Knows one schema, a short one."""

    def text(self, kind: Kind, payload: bytes | None) -> bytes | None:
        """Return it."""
        return b'"a schema"' if payload is not None and kind is Kind.EVENT else None


def test_every_cut_is_found(instance: Provable) -> None:
    """A bundle that ends anywhere before its end does not hold; where entries are missing, it is said which."""
    bundle = instance.bundle("acme", 1, 3)
    for size in range(len(bundle)):
        result = check(bundle[:size])
        assert result.exit_code in (1, 2), size
    lines = lines_of(bundle)
    for count, seq in ((1, 1), (3, 2), (4, 3)):  # the head, the schema behind it, entries
        (found,) = check(b"".join(lines[:count])).violations
        assert (found.type, found.tenant, found.seq) == (ViolationType.TRUNCATED, "acme", seq)
    assert isinstance(check(b"".join(lines[:-1])).failure, BundleInvalid)
    assert isinstance(check(bundle + b"{}\n").failure, BundleInvalid)


def _entry_lines(bundle: bytes) -> dict[int, int]:
    """Return the place of each entry's line."""
    parsed = [json.loads(line) for line in lines_of(bundle)]
    return {one["seq"]: place for place, one in enumerate(parsed) if one["type"] == "entry"}


def _edit(lines: list[bytes], at: dict[int, int]) -> None:
    line = BundleEntry.parse(parse_line(lines[at[5]]))
    entry = line.entry.replace(b"ev-5", b"ev-6")
    lines[at[5]] = BundleEntry.of(entry, line.hash, line.payload).pack()


def _edit_with_hash(lines: list[bytes], at: dict[int, int]) -> None:
    line = BundleEntry.parse(parse_line(lines[at[5]]))
    entry = line.entry.replace(b"ev-5", b"ev-6")
    lines[at[5]] = BundleEntry.of(entry, entry_hash(entry), line.payload).pack()


def _edit_words(lines: list[bytes], at: dict[int, int]) -> None:
    lines[at[5]] = lines[at[5]].replace(b'"event_id":"ev-5"', b'"event_id":"ev-6"')


def _edit_payload(lines: list[bytes], at: dict[int, int]) -> None:
    line = BundleEntry.parse(parse_line(lines[at[5]]))
    payload = (line.payload or b"").replace(b"updated", b"deleted")
    lines[at[5]] = BundleEntry.of(line.entry, line.hash, payload).pack()


def _drop_payload(lines: list[bytes], at: dict[int, int]) -> None:
    line = BundleEntry.parse(parse_line(lines[at[5]]))
    lines[at[5]] = BundleEntry.of(line.entry, line.hash, None).pack()


def _remove(lines: list[bytes], at: dict[int, int]) -> None:
    del lines[at[5]]


def _swap(lines: list[bytes], at: dict[int, int]) -> None:
    lines[at[5]], lines[at[6]] = lines[at[6]], lines[at[5]]


def _repeat(lines: list[bytes], at: dict[int, int]) -> None:
    lines.insert(at[6], lines[at[5]])


def _foreign(lines: list[bytes], at: dict[int, int]) -> None:
    line = BundleEntry.parse(parse_line(lines[at[5]]))
    fields = parse(line.entry)
    entry = line.entry.replace(b"\x04acme", b"\x04acne")
    assert fields.tenant != parse(entry).tenant
    lines[at[5]] = BundleEntry.of(entry, entry_hash(entry), line.payload).pack()


def _outside(lines: list[bytes], at: dict[int, int]) -> None:
    lines.insert(-1, provable().bundle("acme", 500, 500).splitlines(keepends=True)[2])
    assert at


def _malformed(lines: list[bytes], at: dict[int, int]) -> None:
    lines[at[5]] = b"{broken\n"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_edit, [(ViolationType.EDITED, 5)]),
        (_edit_with_hash, [(ViolationType.EDITED, 5), (ViolationType.EDITED, 5)]),
        (_edit_words, [(ViolationType.EDITED, 5)]),
        (_edit_payload, [(ViolationType.PAYLOAD_ALTERED, 5)]),
        (_drop_payload, [(ViolationType.PAYLOAD_ALTERED, 5)]),
        (_remove, [(ViolationType.GAP, 5)]),
        (_swap, [(ViolationType.GAP, 5), (ViolationType.REORDERED, 5)]),
        (_repeat, [(ViolationType.FORK, 5)]),
        (_foreign, [(ViolationType.FOREIGN, 5)]),
        (_outside, [(ViolationType.FOREIGN, 500)]),
        (_malformed, [(ViolationType.EDITED, 5)]),
    ],
)
def test_what_was_changed_is_named(
    instance: Provable, change: Callable[[list[bytes], dict[int, int]], None], found: list[tuple[ViolationType, int]]
) -> None:
    """An edited, missing, reordered, repeated or foreign entry is named by its seq, also if the end was made to fit."""
    bundle = instance.bundle("acme", 2, 9)
    lines = lines_of(bundle)
    change(lines, _entry_lines(bundle))
    result = check(ended(lines))
    assert (result.exit_code, result.failure) == (1, None)
    assert [(one.type, one.seq) for one in result.violations] == found
    assert {one.tenant for one in result.violations} == {"acme"}


def test_history_that_was_made_anew_is_not_believed(instance: Provable) -> None:
    """Whoever makes all entries of a bundle anew, links and hashes included, still does not have the checkpoint."""
    other = provable()
    other.chains.received += 1
    forged = Provable()
    forged.chains.received += 1
    forged.events("acme", "ev-1", "ev-2")
    forged.notary.round()
    head = BundleHead.parse(parse_line(lines_of(instance.bundle("acme", 0, 2))[0]))
    result = check(ended([head.pack(), *lines_of(forged.bundle("acme", 0, 2))[1:]]))
    assert result.exit_code == 1
    assert [(one.type, one.seq) for one in result.violations] == [(ViolationType.EDITED, None)]
    assert "entries 0 to 2 hold together" in result.violations[0].message


def test_part_that_is_said_to_be_another_one_is_not_believed(instance: Provable) -> None:
    """A head that says other seqs, another size or other hashes around them does not lead to the checkpoint."""
    lines = lines_of(instance.bundle("acme", 4, 6))
    head = json.loads(lines[0])
    for change in (
        {"before": [head["before"][0][::-1]]},
        {"behind": [*head["behind"][:-1], head["nonce"]]},
        {"nonce": head["before"][0]},
        {"index": (head["index"] + 1) % head["chains"]},
        {"round": 1},
        {"previous": head["coverage"]},
        {"chains": head["chains"] + 1},
    ):
        result = check(ended([pack_line(head | change), *lines[1:]]))
        assert result.exit_code == 1, change
    assert isinstance(check(ended([pack_line(head | {"first": 3}), *lines[1:]])).failure, BundleInvalid)


def test_reader_decides_whom_he_believes(instance: Provable) -> None:
    """An unknown log, a missing quorum and a level that is not reached are said as what they are: not checked."""
    bundle = instance.bundle("acme", 0, 2)
    assert isinstance(check(bundle, Reader(other_policy(), NOW_SECONDS)).failure, SignatureMissing)
    lines = lines_of(bundle)
    head = json.loads(lines[0])
    note = head["note"].split("\n")
    without = check(ended([pack_line(head | {"note": "\n".join([*note[:-2], ""])}), *lines[1:]]))
    assert (type(without.failure), without.exit_code) == (QuorumMissing, 2)
    signature = note[-2]
    forged = "\n".join([*note[:-2], f"{signature[:-4]}{'AA==' if signature[-4:] != 'AA==' else 'AQ=='}", ""])
    wrong = check(ended([pack_line(head | {"note": forged}), *lines[1:]]))
    assert (type(wrong.failure), wrong.exit_code) == (SignatureInvalid, 1)
    needed = check(bundle, require=ProofLevel.ANCHORED)
    assert (needed.exit_code, needed.is_valid) == (2, False)
    alone = Policy(policy().logs, (), (), "none")
    assert check(bundle, Reader(alone, NOW_SECONDS)).shown is not None
    assert any("policy asks for no witness" in word for word in check(bundle, Reader(alone, NOW_SECONDS)).not_excluded)
    with pytest.raises(PolicyInvalid):
        Policy.parse(b"")


def test_true_bundle_of_another_tenant_or_instance_is_refused(instance: Provable) -> None:
    """Who says which tenant and instance he asked for is told of a bundle of another: it holds, and shows nothing."""
    bundle = instance.bundle("acme", 0, 2)
    asked = check(bundle, tenant="acme", origin=INSTANCE)
    assert (asked.exit_code, asked.tenant) == (0, "acme")
    other = check(bundle, tenant="globex")
    assert (type(other.failure), other.exit_code, other.entries) == (EventDiffers, 2, 0)
    assert "of tenant acme, and globex was asked for" in str(other.failure)
    elsewhere = check(bundle, origin="other.example/audit")
    assert (type(elsewhere.failure), elsewhere.exit_code) == (OriginDiffers, 2)


def test_chain_of_another_instance_is_not_believed(instance: Provable) -> None:
    """A genesis that names another instance than the root log's is a contradiction."""
    made = Provable()
    made.chains.instance = "other.example/audit"
    made.events("acme", "ev-1")
    made.notary.round()
    bundle = made.bundle("acme", 0, 1)
    result = check(bundle)
    assert (type(result.failure), result.exit_code) == (EvidenceInvalid, 1)
    assert instance is not None


def test_store_that_does_not_hold_gives_no_bundle(instance: Provable) -> None:
    """What was edited or removed in the store, or published otherwise, is named by its seq while it is exported."""
    made = provable()
    kept = made.store.all
    made.store.all = [one for one in kept if (one.tenant, one.seq) != ("acme", 7)]
    with pytest.raises(StoreDamaged, match="tenant acme seq 7: entry is missing"):
        made.bundle("acme", 5, 9)
    made.store.all = [one for one in kept if one.tenant != "acme" or one.seq in (*range(7), 9)]
    with pytest.raises(StoreDamaged, match="tenant acme seq 7: entries 7 to 8 are missing"):
        made.bundle("acme", 5, 9)
    made.store.all = kept
    path = "chains/acme/tile/0/000"
    files = made.notary.objects.files
    made.fresh()
    files[path] = bytes((files[path][0] ^ 1,)) + files[path][1:]
    with pytest.raises(EvidenceDamaged, match="entries 1 to 3"):
        made.bundle("acme", 1, 3)
    assert instance.bundle("acme", 1, 3)


def test_part_is_chosen_by_seq_or_time(instance: Provable) -> None:
    """From and to are places or times; without them it is all that can be proven."""
    of = instance.exporter.range_of
    assert of("acme", since=None, until=None) == (0, 599)
    assert of("acme", since=3, until=17) == (3, 17)
    third = instance.store.get_record("acme", 3).received
    assert of("acme", since=third, until=None) == (3, 599)
    assert of("acme", since=1, until=third) == (1, 2)
    with pytest.raises(StoreError, match="in that time"):
        of("acme", since=datetime(2100, 1, 1, tzinfo=UTC), until=None)
    with pytest.raises(StoreError, match="no entries from 5 to 4"):
        of("acme", since=5, until=4)
    with pytest.raises(NotYetProvable, match="nothing of tenant nobody"):
        of("nobody", since=None, until=None)


def test_what_cannot_be_proven_yet_is_not_exported(instance: Provable) -> None:
    """A bundle ends before what no checkpoint covers; who asks for more is told so."""
    made = provable()
    made.events("acme", "fresh")
    assert made.exporter.range_of("acme", since=None, until=None) == (0, 599)
    with pytest.raises(NotYetProvable, match="seq 600"):
        made.bundle("acme", 0, 600)
    assert instance is not None


def test_one_entry_has_one_line() -> None:
    """What parses is written again with the same bytes, and a line in another form is refused."""
    made = Provable()
    made.events("acme", "ev-1")
    made.notary.round()
    for line in lines_of(made.bundle("acme", 0, 1)):
        assert pack_line(parse_line(line)) == line
        for other in (line[:-1], line.replace(b":", b": ", 1), line[:-2] + b" }\n", b"[" + line[:-1] + b"]\n"):
            with pytest.raises(BundleInvalid):
                parse_line(other)
    for line in (b"\n", b"[" * 100_000 + b"\n", b'{"a":1e3}\n', b"{}x\n", b'{"a":NaN}\n'):
        try:
            found = parse_line(line)
        except BundleInvalid:
            continue
        with pytest.raises(BundleInvalid):
            BundleHead.parse(found)


def test_quarantined_kind_is_named() -> None:
    """The kinds' names are those of the specification."""
    made = Provable()
    made.take(made.chains.quarantined("acme", Quarantine.MALFORMED))
    line = BundleEntry.of(made.store.all[1].entry, made.store.all[1].chain_hash, None)
    assert (line.kind, line.event_id, line.says_of_itself()) == ("quarantined", "", "")
    assert pack(parse(line.entry)) == line.entry
