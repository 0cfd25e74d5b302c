"""The auditor's one file comes to the same verdict as the product, and needs nothing of it."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.deploy.cli.evidence import DOES_NOT_HOLD
from sealstream.schemas.errors import EvidenceInvalid, SealstreamError
from sealstream.schemas.evidence import verify_proof
from sealstream.schemas.key_history import KeyHistory, parse_rotations, sign_rotation
from sealstream.schemas.note import Note
from sealstream.schemas.note_key import KeyType
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_bytes import pack_number, pack_sized
from sealstream.schemas.proof_file import CHECK_BYTES, ProofFile
from sealstream.schemas.proof_note import pack_note
from sealstream.schemas.trust import Reader
from sealstream.worker.key_file import write_key
from support import proof_vectors, spec
from support.mutation import changed_bytes, cuts, mutated
from support.notes import LOG, NOW_SECONDS, ORIGIN, cosignature_line, policy, signer, witness
from support.sealproofs import (
    INSTANCE,
    SIGNED_SECONDS,
    TENANT,
    Instance,
    chain,
    nonce,
    other_forms,
    rechecked,
    with_earlier,
)
from support.timestamping import make_authority

PATH: Final = Path(__file__).parents[2] / "deploy" / "standalone" / "sealstream_verify.py"
LINES_MAX: Final = 300
HOLDS, FORGED, UNJUDGED = 0, 1, 2
EARLIER: Final = with_earlier()
STATE: Final = EARLIER.earlier or pytest.fail("there is an earlier state")
NEW_LOG: Final = signer(ORIGIN, number=1)
GONE_SECONDS: Final = NOW_SECONDS - 60


def load() -> ModuleType:
    """Import the file by its path, as it is no part of the product."""
    found = importlib.util.spec_from_file_location("sealstream_verify", PATH)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


STANDALONE: Final = load()
GONE: Final = b"".join(
    sign_rotation(old, new, old_not_after_seconds=GONE_SECONDS, new_not_before_seconds=GONE_SECONDS)[1]
    for old, new in ((LOG, NEW_LOG), *((witness(n), witness(n, generation=1)) for n in (1, 2, 3)))
)
LOG_GONE: Final = GONE[: GONE.index(b"sealstream/rotation1", 1)]


def product(
    data: bytes, judged_by: bytes, records: bytes = b"", at: int = NOW_SECONDS, payload: bytes | None = None
) -> tuple[int, str]:
    """Return the product's verdict as an exit code, and the reason."""
    try:
        history = KeyHistory(parse_rotations(records) if records else ())
        verify_proof(ProofFile.parse(data), Reader(Policy.parse(judged_by), at, history), payload=payload)
    except SealstreamError as error:
        return (FORGED if isinstance(error, DOES_NOT_HOLD) else UNJUDGED), error.message
    return HOLDS, ""


def standalone(
    data: bytes, judged_by: bytes, records: bytes = b"", at: int = NOW_SECONDS, payload: bytes | None = None
) -> tuple[int, str]:
    """Return the verdict of the auditor's file as an exit code, and the reason."""
    try:
        STANDALONE.Proof(data, STANDALONE.Policy(judged_by.decode(), records), at, payload or b"", [None, None])
    except STANDALONE.UnprovenError as error:
        return error.args[1], error.args[0]
    except ValueError as error:
        return UNJUDGED, str(error)
    return HOLDS, ""


def check_same(data: bytes, judged_by: bytes, records: bytes = b"", **given_too: object) -> int:
    """Return the verdict of both, which must be the same.

    There is one difference: where the fields of an entry contradict each other, the product does not take it for one,
    and the short file finds that the log has another.
    """
    one, why = product(data, judged_by, records, **given_too)  # type: ignore[arg-type]
    other, reason = standalone(data, judged_by, records, **given_too)  # type: ignore[arg-type]
    if "no entry" in why:
        assert other in (FORGED, UNJUDGED), (why, reason)
    else:
        assert one == other, (why, reason)
    return one


POLICIES: Final = {
    "two of three": policy().pack(),
    "all of two": policy(2, 2).pack(),
    "three of three": policy(3, 3).pack(),
    "one of one": policy(1, 1).pack(),
    "nobody": policy(0).pack(),
    "new log": policy(log=NEW_LOG).pack(),
    "another log": policy(log=signer("other.example")).pack(),
    "nested": b"# whom we believe\n"
    + policy(2, 1).pack().replace(b"quorum all-of-them", b"group outer any all-of-them\nquorum outer"),
}


def proofs() -> Iterator[ProofFile]:
    """Yield proofs: such that hold, and such whose parts do not belong together."""
    yield EARLIER
    for seq in range(21):
        yield INSTANCE.proof(seq)
        yield INSTANCE.proof(seq, with_payload=False, with_schema=seq not in (0, 3, 4), size=6, timestamps=[b"one"])
    for name in ("globex", "!partition-0"):
        yield INSTANCE.proof(0, name=name)
    other = INSTANCE.proof(16)
    yield replace(EARLIER, entry=other.entry, payload=other.payload)
    yield replace(EARLIER, payload=other.payload)
    yield replace(EARLIER, payload=b"x")
    yield replace(EARLIER, nonce=nonce("globex"))
    yield replace(EARLIER, size=17)
    yield replace(EARLIER, path=(*EARLIER.path, bytes(32)))
    yield replace(EARLIER, path=EARLIER.path[1:])
    yield replace(EARLIER, rooted=INSTANCE.proof(15, round_number=5).rooted)
    yield replace(EARLIER, rooted=replace(EARLIER.rooted, index=0))
    for consistency in ((), STATE.consistency[:-1], (*STATE.consistency, bytes(32)), (bytes(32),)):
        yield replace(EARLIER, earlier=replace(STATE, consistency=consistency))
    yield replace(EARLIER, earlier=replace(STATE, size=3))
    forked = Instance(INSTANCE.chains, (*INSTANCE.sizes[:3], (13, 3, 2, 1)))
    yield replace(EARLIER, earlier=forked.earlier(4, 4))
    yield replace(EARLIER, earlier=INSTANCE.earlier(5, 4, note=INSTANCE.note(4, {1: SIGNED_SECONDS})))
    foreign = Instance(INSTANCE.chains, INSTANCE.sizes, origin="other.example", log=signer("other.example"))
    yield foreign.proof(0)
    yield foreign.proof(8)
    yield replace(EARLIER, earlier=foreign.earlier(5, 4))


def notes() -> Iterator[bytes]:
    """Yield notes of one checkpoint, with signatures of every sort."""
    at = SIGNED_SECONDS
    times: tuple[dict[int, int], ...] = (
        {}, {1: at}, {1: at, 2: at}, {1: at, 2: at, 3: at}, {2: at, 3: at}, {1: at, 9: at},
        {1: NOW_SECONDS + 300, 2: at}, {1: NOW_SECONDS + 301, 2: at}, {1: GONE_SECONDS, 2: GONE_SECONDS + 1},
        {1: GONE_SECONDS, 2: GONE_SECONDS}, {1: GONE_SECONDS + 1, 2: GONE_SECONDS + 1},
    )  # fmt: skip
    for one in times:
        for generation in (0, 1):
            yield INSTANCE.note(5, one, generation=generation)
            yield replace(INSTANCE, log=NEW_LOG).note(5, one, generation=generation)
    whole = INSTANCE.note(5, {1: at, 2: at})
    yield whole + cosignature_line(INSTANCE.checkpoint(4), witness(3), at)
    yield whole + cosignature_line(INSTANCE.checkpoint(5), witness(1), at + 1)
    yield whole + cosignature_line(INSTANCE.checkpoint(4), witness(8), at)


@pytest.mark.parametrize("judged_by", POLICIES.values(), ids=POLICIES)
def test_same_verdict_on_proofs(judged_by: bytes) -> None:
    """Proofs that hold, and such put together of parts of others, are judged alike by every policy."""
    found = [check_same(proof.pack(), judged_by) for proof in proofs()]
    assert {FORGED, UNJUDGED} <= {*found}
    assert (HOLDS in found) == (judged_by not in (POLICIES["three of three"], POLICIES["new log"]))


@pytest.mark.parametrize("records", [b"", LOG_GONE, GONE], ids=["no rotation", "log rotated", "all rotated"])
@pytest.mark.parametrize("judged_by", POLICIES.values(), ids=POLICIES)
def test_same_verdict_on_signatures(judged_by: bytes, records: bytes) -> None:
    """Signatures of every sort, at every time, by old and new keys, are judged alike."""
    found: set[int] = set()
    for note in notes():
        proof = replace(EARLIER, earlier=None, rooted=replace(EARLIER.rooted, note=note))
        found |= {check_same(proof.pack(), judged_by, records, at=at) for at in (NOW_SECONDS, GONE_SECONDS)}
    assert UNJUDGED in found


def with_fields(*signed: tuple[bytes, bytes], origin: bytes = ORIGIN.encode(), count: int | None = None) -> bytes:
    """Return a file with other fields of its note: origin, signatures, and how many there are said to be."""
    fields = [pack_sized(origin), pack_number(5), INSTANCE.checkpoint(5).root]
    fields += [pack_number(len(signed) if count is None else count)]
    fields += [pack_sized(one) for pair in signed for one in pair]
    whole = pack_note(EARLIER.rooted.note)
    return rechecked(replace(EARLIER, earlier=None).pack().replace(whole, b"".join(fields)))


SIGNED: Final = tuple(
    (b"" if one.name == ORIGIN else one.name.encode(), one.key_id + one.signature)
    for one in Note.parse(EARLIER.rooted.note).signatures
)
LINE: Final = b" QUJDREVG\n\xe2\x80\x94 x"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (with_fields(*SIGNED), HOLDS),
        (with_fields(*SIGNED, (b"other", b"12345")), HOLDS),
        (with_fields(*SIGNED[1:]), UNJUDGED),
        (with_fields((ORIGIN.encode(), SIGNED[0][1]), *SIGNED[1:]), UNJUDGED),
        (with_fields(*SIGNED, (b"other", b"1234")), UNJUDGED),
        *(
            (with_fields(*SIGNED, (name, b"12345")), UNJUDGED)
            for name in (b"a b", b"a+b", b"\xff", b"a\n", b"x" + LINE)
        ),
        *((with_fields(*SIGNED, (b"x" + end, b"12345")), UNJUDGED) for end in (b"\n\n", b"\t", b"\xc2\xa0", b"\x1f")),
        (with_fields(), UNJUDGED),
        (with_fields(*SIGNED, count=2), UNJUDGED),
        (with_fields(*SIGNED, *[(b"other", b"12345")] * 97), HOLDS),
        (with_fields(*SIGNED, *[(b"other", b"12345")] * 98), UNJUDGED),
        (with_fields(*SIGNED, (b"other", bytes(400_000))), UNJUDGED),
        (with_fields((ORIGIN.encode(), SIGNED[0][1]), *SIGNED[1:], origin=b""), UNJUDGED),
        (with_fields(*SIGNED, origin=b"\n"), UNJUDGED),
        (with_fields((ORIGIN.encode(), SIGNED[0][1]), *SIGNED[1:], origin=b"a\nb"), UNJUDGED),
        (with_fields((ORIGIN.encode(), SIGNED[0][1]), *SIGNED[1:], origin=b"a\n\nb"), UNJUDGED),
        (with_fields(*SIGNED, origin=b"other.example"), FORGED),
    ],
)
def test_same_verdict_on_the_fields_of_a_note(data: bytes, code: int) -> None:
    """Fields that give no note, or another form of one, are judged alike: no name and no origin makes its own lines."""
    assert check_same(data, POLICIES["all of two"]) == code


@pytest.mark.parametrize("data", other_forms().values(), ids=other_forms())
def test_one_form(data: bytes) -> None:
    """A file that says the same in another form is refused by both, whatever it says."""
    assert check_same(data, POLICIES["all of two"]) == UNJUDGED


def test_same_verdict_on_every_damage() -> None:
    """Every changed byte and every cut is a damaged file to both."""
    data = EARLIER.pack()
    for changed in (*changed_bytes(data), *cuts(data)):
        assert standalone(changed, POLICIES["all of two"])[0] == UNJUDGED


def test_same_verdict_on_every_forgery() -> None:
    """Every changed byte and every cut under a checksum that fits is judged alike."""
    data = EARLIER.pack()
    flipped = (
        data[:place] + bytes((data[place] ^ 1 << place % 8,)) + data[place + 1 :] for place in range(len(data) - 8)
    )
    for changed in (*flipped, *(data[:place] + bytes(CHECK_BYTES) for place in range(len(data) - CHECK_BYTES))):
        assert check_same(rechecked(changed), POLICIES["all of two"]) != HOLDS


@given(mutated(st.sampled_from([EARLIER.pack(), INSTANCE.proof(0).pack(), INSTANCE.proof(8, with_schema=True).pack()])))
def test_same_verdict_on_any_change(changed: bytes) -> None:
    """Whatever is put in, taken out or replaced is judged alike."""
    assert check_same(rechecked(changed), POLICIES["two of three"]) in (HOLDS, FORGED, UNJUDGED)


def test_same_verdict_on_a_payload_from_elsewhere() -> None:
    """A payload that is given apart is judged alike."""
    for seq in range(21):
        data = INSTANCE.proof(seq, with_payload=False).pack()
        for payload in (*INSTANCE.chains[0].payloads, b"x"):
            code = check_same(data, POLICIES["two of three"], payload=payload)
            assert (code == HOLDS) == (payload == INSTANCE.chains[0].payloads[seq])


def test_records_that_contradict() -> None:
    """Two records that say different things of one key, or come back to one, are refused by both."""
    again = sign_rotation(LOG, signer(ORIGIN, number=5), old_not_after_seconds=1, new_not_before_seconds=1)[1]
    back = sign_rotation(NEW_LOG, LOG, old_not_after_seconds=1, new_not_before_seconds=1)[1]
    for records in (LOG_GONE + again, LOG_GONE + back, LOG_GONE[:-3], LOG_GONE.replace(b"%d" % GONE_SECONDS, b"1", 1)):
        assert check_same(EARLIER.pack(), POLICIES["two of three"], records) == UNJUDGED


def test_a_key_that_it_does_not_judge_by() -> None:
    """A policy with a key of ML-DSA-44 is not judged, and the reader is told what does."""
    log = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
    code, reason = standalone(EARLIER.pack(), policy(0, log=log).pack())
    assert (code, "verify-proof" in reason) == (UNJUDGED, True)


def test_spec_vectors() -> None:
    """The proofs that SPEC.md gives hold by its policy."""
    for data in proof_vectors.vectors():
        assert check_same(data, spec.blocks("proof_policy")[0].encode(), at=1_700_001_000) == HOLDS


def test_it_imports_nothing_else() -> None:
    """It needs the standard library and `cryptography`, and has fewer than 300 lines."""
    text = PATH.read_text(encoding="utf-8")
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names - sys.stdlib_module_names == {"cryptography"}
    assert not {"socket", "urllib", "http", "subprocess"} & names
    assert len(text.splitlines()) < LINES_MAX


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the file in a folder, cut off from the product."""
    copy = folder / PATH.name
    shutil.copy(PATH, copy)
    command = [sys.executable, "-I", str(copy), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_as_a_program(tmp_path: Path) -> None:
    """It prints what is shown and what for, writes out what the file holds, and its exit code is the verdict."""
    authority = make_authority(tmp_path / "authority")
    note = INSTANCE.note(5)
    proof = replace(EARLIER, schema=b'"string"', rooted=replace(EARLIER.rooted, timestamps=(authority.stamp(note),)))
    (tmp_path / "a.sealproof").write_bytes(proof.pack())
    (tmp_path / "policy").write_bytes(policy().pack())
    (tmp_path / "new").write_bytes(policy(log=NEW_LOG).pack())
    (tmp_path / "rotations").write_bytes(GONE)
    (tmp_path / "forged").write_bytes(rechecked(proof.pack().replace(b"ev-15", b"ev-16")))
    at = ("--at", str(NOW_SECONDS))

    done = run(tmp_path, "a.sealproof", "--policy", "policy", *at, "--extract", ".")
    assert (done.returncode, done.stderr) == (HOLDS, "")
    for words in ("witnessed", f"seq 15 of 18 of {TENANT}", "ev-15", ORIGIN, "W1", "not judge: 1"):
        assert words in done.stdout
    assert (tmp_path / "checkpoint").read_bytes() == note
    assert (tmp_path / "payload").read_bytes() == proof.payload
    assert (tmp_path / "schema.avsc").read_bytes() == proof.schema
    assert (tmp_path / "earlier-checkpoint").read_bytes() == STATE.rooted.note
    root = str(authority.directory / "root.pem")
    judge = ["openssl", "ts", "-verify", "-data", "checkpoint", "-in", "checkpoint-0.tsr", "-CAfile", root]
    judge += ["-attime", str(int(time.time()))]
    judged = subprocess.run(judge, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert judged.returncode == 0, judged.stderr

    gone = ("--rotations", "rotations", *at)
    (tmp_path / "checkpoint-0.tsr").unlink()
    assert run(tmp_path, "a.sealproof", "--policy", "new", *gone, "--extract", ".").returncode == UNJUDGED
    assert (tmp_path / "checkpoint-0.tsr").read_bytes() == proof.rooted.timestamps[0]
    before = ("--existed-by", str(GONE_SECONDS), str(GONE_SECONDS))
    assert "anchored" in run(tmp_path, "a.sealproof", "--policy", "policy", *gone, *before).stdout
    late = ("--existed-by", str(GONE_SECONDS + 1))
    assert run(tmp_path, "a.sealproof", "--policy", "policy", *gone, *late).returncode == UNJUDGED
    assert run(tmp_path, "forged", "--policy", "policy", *at).returncode == FORGED
    assert "not proven" in run(tmp_path, "forged", "--policy", "policy", *at).stdout
    missing = run(tmp_path, "missing", "--policy", "policy", *at)
    assert (missing.returncode, missing.stderr) == (UNJUDGED, "")


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (b"group all-of-them 2 ", b"group all-of-them 0 "),
        (b"group all-of-them 2 ", b"group all-of-them -1 "),
        (b"group all-of-them 2 ", b"group all-of-them 4 "),
        (b"group all-of-them 2 W1 W2", b"group all-of-them 2 W1 W1"),
        (b"group all-of-them 2 W1 W2", b"group all-of-them 2 W1 W4"),
        (str(witness(1).verifier).encode(), str(signer("w1.example/witness").verifier).encode()),
        (b"log " + str(LOG.verifier).encode(), b"log " + str(witness(1).verifier).encode()),
        (b"witness W1", b"witness none"),
        (b"witness W2", b"witness W1"),
        (b"quorum all-of-them", b"quorum W9"),
        (b"quorum all-of-them\n", b""),
        (b"quorum", b"quorums"),
        (b"log ", b"LOG "),
        (str(witness(2).verifier).encode(), str(witness(1).verifier).encode()),
    ],
)
def test_unsound_policies(line: bytes, instead: bytes) -> None:
    """A policy that contradicts itself, or by which nobody would have to cosign, is refused by both."""
    assert POLICIES["two of three"].count(line) == 1
    assert check_same(EARLIER.pack(), POLICIES["two of three"].replace(line, instead)) == UNJUDGED


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the page's commands are those of the GNU tools")
def test_its_signed_digest(tmp_path: Path) -> None:
    """What its README says to sign and check its digest by works with a key of `sealstream keys`; a change is found."""
    text = (PATH.parent / "README.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    make, check = (
        commands[commands.index("sha256sum sealstream_verify.py > sealstream_verify.sha256") :][:3],
        commands[-2:],
    )
    write_key(tmp_path / "release.key", signer("example.com/releases"))
    shutil.copy(PATH, tmp_path)
    for command in (*make, *check):
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    (tmp_path / PATH.name).write_text("changed", encoding="utf-8")
    done = subprocess.run(check[1], shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0


def test_payload_that_contradicts() -> None:
    """A payload of another tenant under a signed entry is refused by both."""
    name = "globex"
    one = chain(name, 2)
    wrong = Instance((replace(one, payloads=(*one.payloads[:1], b"other")),), ((2,),))
    data = wrong.proof(1, name=name).pack()
    with pytest.raises(EvidenceInvalid):
        verify_proof(ProofFile.parse(data), Reader(policy(), NOW_SECONDS))
    assert check_same(data, POLICIES["two of three"]) == FORGED
