"""``sealstream verify-proof``: a verdict, a statement for a person, and what is not proven; with nothing but files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from sealstream.deploy.cli import main
from sealstream.deploy.cli.output import ExitCode
from sealstream.schemas.entry import pack, parse, payload_digest
from sealstream.schemas.errors import ProofFileInvalid
from sealstream.schemas.key_history import sign_rotation
from sealstream.schemas.note import Note, sign_note
from sealstream.schemas.note_key import KeyType
from sealstream.schemas.policy import POLICY_BYTES_MAX
from sealstream.schemas.proof_file import PROOF_BYTES_MAX, ProofFile
from support.mutation import changed_bytes
from support.notes import LOG, NOW_SECONDS, ORIGIN, policy, signer
from support.sealproofs import INSTANCE, SIGNED_SECONDS, TENANT, Instance, chain, nonce, rechecked, with_earlier
from support.timestamping import make_authority

Captured = pytest.CaptureFixture[str]
AT: Final = "2027-01-15T08:00:00Z"
EARLIER: Final = with_earlier()
STATE: Final = EARLIER.earlier or pytest.fail("there is an earlier state")


class Desk:
    """A reader's files, and the command run on them."""

    def __init__(self, folder: Path, capsys: Captured) -> None:
        self.folder = folder
        self._capsys = capsys
        self.write("policy", policy().pack())

    def write(self, name: str, data: bytes) -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def run(self, proof: ProofFile | bytes, *options: str | Path, judged_by: str = "policy") -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        path = self.write("a.sealproof", proof if isinstance(proof, bytes) else proof.pack())
        arguments = ["verify-proof", path, "--policy", self.folder / judged_by, "--at", AT, *options]
        code = main([str(one) for one in arguments])
        printed = self._capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed.out, printed.err

    def json(self, proof: ProofFile | bytes, *options: str | Path, judged_by: str = "policy") -> tuple[int, Any]:
        """Return exit code and the JSON that was printed."""
        code, out, err = self.run(proof, *options, "--json", judged_by=judged_by)
        assert err == ""
        return code, json.loads(out)


@pytest.fixture
def desk(tmp_path: Path, capsys: Captured) -> Desk:
    """A reader with a policy."""
    return Desk(tmp_path, capsys)


def test_statement(desk: Desk) -> None:
    """A person reads who, what, when and where in its chain, who says so, and what is not proven."""
    code, out, err = desk.run(EARLIER)
    assert (code, err) == (ExitCode.OK, "")
    for words in (
        "holds at the level witnessed",
        f"tenant\t{TENANT}",
        "event\tev-15",
        "who\tuser u-1",
        "what\tdocument.updated, outcome unknown",
        "occurred\t2026-01-01T00:00:00+00:00 (the application's word)",
        "received\t2027-01-15T06:50:15+00:00 (the broker's word)",
        "in the log after\t2027-01-15T07:04:01+00:00 (witness W2",
        "in the log by\t2027-01-15T07:05:02+00:00 (witness W1)",
        f"place\tseq 15 of 18 entries, in round 4 of {ORIGIN}",
        "payload\tmatches",
        "cosigned by\tW1",
        "not proven:\n  - that what the event says is true",
    ):
        assert words in out, words


def test_json(desk: Desk) -> None:
    """A program gets the same as one object."""
    code, found = desk.json(EARLIER)
    assert code == ExitCode.OK
    assert (found["level"], found["tenant"], found["event_id"], found["seq"]) == ("witnessed", TENANT, "ev-15", 15)
    assert found["event"]["action"] == "document.updated"
    assert found["in_log_by"] == [{"time": "2027-01-15T07:05:02+00:00", "by": "W1", "how": "witness"}]
    assert [one["by"] for one in found["in_log_after"]] == ["W2", "W1"]
    assert found["not_proven"]
    assert "error" not in found


@pytest.mark.parametrize("seq", [0, 3, 4, 5, 8])
def test_every_kind(desk: Desk, seq: int) -> None:
    """Entries of every kind are stated, with or without a payload."""
    for proof in (INSTANCE.proof(seq), INSTANCE.proof(seq, with_payload=False)):
        code, out, _ = desk.run(proof)
        assert (code, f"seq {seq} of" in out) == (ExitCode.OK, True)
    assert desk.json(INSTANCE.proof(seq))[0] == ExitCode.OK


def test_marks(desk: Desk) -> None:
    """What an event says cannot steer the reader's terminal."""
    before = chain(TENANT, 9)
    value = before.payloads[8].replace(b"document.updated", b"document\x1b[2Jated")
    data = pack(replace(parse(before.entries[8]), payload=payload_digest(value)))
    marked = replace(before, entries=(*before.entries[:8], data), payloads=(*before.payloads[:8], value))
    code, out, _ = desk.run(Instance((marked,), ((9,),)).proof(8))
    assert (code, "\x1b" in out, "document\\x1b[2Jated" in out) == (ExitCode.OK, False, True)


def test_levels(desk: Desk, tmp_path: Path) -> None:
    """A level that is not reached is said, with what was reached, and is no success."""
    code, found = desk.json(EARLIER, "--require", "anchored")
    assert (code, found["level"], found["type"]) == (ExitCode.FAILED, "witnessed", "QuorumMissing")
    code, out, err = desk.run(EARLIER, "--require", "anchored")
    assert (code, "holds at the level witnessed" in out, "anchored is asked for" in err) == (
        ExitCode.FAILED,
        True,
        True,
    )
    assert desk.run(EARLIER, "--require", "witnessed")[0] == ExitCode.OK
    desk.write("nobody", policy(0).pack())
    assert desk.run(EARLIER, "--require", "witnessed", judged_by="nobody")[0] == ExitCode.FAILED
    assert desk.json(EARLIER, judged_by="nobody")[1]["level"] == "checkpoint"

    authority = make_authority(tmp_path / "authority")
    note = INSTANCE.note(5)
    proof = INSTANCE.proof(15, note=note, timestamps=[authority.stamp(note)])
    roots = desk.write("roots.pem", authority.roots_pem)
    code, out, _ = desk.run(proof, "--timestamp-roots", roots, "--require", "anchored", "--at", "2036-01-01")
    assert (code, "timestamp of CN=Test TSA" in out) == (ExitCode.OK, True)
    assert "not judged" in desk.run(proof)[1]


def test_rotations(desk: Desk) -> None:
    """A proof by a key that has gone needs the records of rotations."""
    new = signer(ORIGIN, number=1)
    _, record = sign_rotation(LOG, new, old_not_after_seconds=NOW_SECONDS, new_not_before_seconds=NOW_SECONDS)
    desk.write("new", policy(log=new).pack())
    records = desk.write("rotations", record)
    assert desk.json(EARLIER, judged_by="new")[1]["type"] == "SignatureMissing"
    assert desk.run(EARLIER, "--rotations", records, judged_by="new")[0] == ExitCode.OK


def test_detached_payload(desk: Desk) -> None:
    """A payload may come from elsewhere; another one is a contradiction."""
    payload = desk.write("payload", INSTANCE.chains[0].payloads[8])
    apart = INSTANCE.proof(8, with_payload=False)
    assert desk.json(apart)[1]["payload"] == "absent"
    assert desk.json(apart, "--payload", payload)[1]["payload"] == "matches"
    payload.write_bytes(b"another")
    code, found = desk.json(apart, "--payload", payload)
    assert (code, found["type"]) == (ExitCode.FOUND, "EvidenceInvalid")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--tenant", "globex"), "EventDiffers"),
        (("--event", "ev-8"), "EventDiffers"),
        (("--instance", "other.example"), "OriginDiffers"),
    ],
)
def test_another_one_than_was_asked_for(desk: Desk, options: tuple[str, str], name: str) -> None:
    """A true proof of something else than the reader asked for is none to him; of what he asked for it is."""
    code, found = desk.json(EARLIER, *options)
    assert (code, found["type"]) == (ExitCode.FAILED, name)
    assert desk.run(EARLIER, "--instance", ORIGIN, "--tenant", TENANT, "--event", "ev-15")[0] == ExitCode.OK


def by_a_stranger() -> ProofFile:
    """Return a proof of an instance that the policy does not know."""
    return Instance(INSTANCE.chains, INSTANCE.sizes, origin="other.example", log=signer("other.example")).proof(8)


OTHER: Final = INSTANCE.proof(16)
VERDICTS: Final[dict[str, tuple[Callable[[], ProofFile | bytes], int, str]]] = {
    "no proof": (lambda: b"nothing", ExitCode.FAILED, "ProofFileInvalid"),
    "empty": (lambda: b"", ExitCode.FAILED, "ProofFileInvalid"),
    "damaged": (lambda: EARLIER.pack()[:-1], ExitCode.FAILED, "ProofFileInvalid"),
    "too large": (lambda: bytes(PROOF_BYTES_MAX + 1), ExitCode.FAILED, "ConfigError"),
    "another payload": (lambda: replace(EARLIER, payload=OTHER.payload), ExitCode.FOUND, "EvidenceInvalid"),
    "another entry": (
        lambda: replace(EARLIER, entry=OTHER.entry, payload=OTHER.payload), ExitCode.FOUND, "ProofInvalid",
    ),
    "another nonce": (lambda: replace(EARLIER, nonce=nonce("globex")), ExitCode.FOUND, "ProofInvalid"),
    "another earlier state": (
        lambda: replace(EARLIER, earlier=replace(STATE, root=bytes(32))), ExitCode.FOUND, "ProofInvalid",
    ),
    "another signature": (
        lambda: rechecked(EARLIER.pack().replace(Note.parse(INSTANCE.note(5)).signatures[-1].signature, bytes(72))),
        ExitCode.FOUND, "SignatureInvalid",
    ),
    "a stranger's": (by_a_stranger, ExitCode.FAILED, "SignatureMissing"),
    "too few witnesses": (
        lambda: INSTANCE.proof(8, note=INSTANCE.note(3, {1: SIGNED_SECONDS})), ExitCode.FAILED, "QuorumMissing",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("made", "code", "name"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(desk: Desk, made: Callable[[], ProofFile | bytes], code: int, name: str) -> None:
    """What contradicts itself or is signed wrongly is 1; what could not be judged is 2; each says why."""
    found_code, found = desk.json(made())
    assert (found_code, found["type"]) == (code, name)
    assert found["error"]
    found_code, out, err = desk.run(made())
    assert (found_code, out) == (code, "")
    assert err.startswith("error: ")


def test_keys_that_are_not_in_use(desk: Desk) -> None:
    """A log's key that has gone before its signature is shown is no verdict on the file: it could not be judged."""
    new = signer(ORIGIN, number=1)
    _, record = sign_rotation(LOG, new, old_not_after_seconds=1, new_not_before_seconds=1)
    code, found = desk.json(EARLIER, "--rotations", desk.write("rotations", record))
    assert (code, found["type"]) == (ExitCode.FAILED, "KeyUntimely")
    _, other = sign_rotation(LOG, signer(ORIGIN, number=2), old_not_after_seconds=1, new_not_before_seconds=1)
    code, found = desk.json(EARLIER, "--rotations", desk.write("rotations", record + other))
    assert (code, found["type"]) == (ExitCode.FAILED, "HistoryForked")


def test_extension_lines_that_nobody_covers(desk: Desk) -> None:
    """A checkpoint with lines that the log has not signed is in no proof file: none is made."""
    log = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
    desk.write("ml-dsa", policy(0, log=log).pack())
    note = sign_note(INSTANCE.checkpoint(5).pack(), [log], time_seconds=SIGNED_SECONDS)
    assert desk.run(INSTANCE.proof(15, note=note), judged_by="ml-dsa")[0] == ExitCode.OK
    extended = note.replace(b"\n\n", b"\nmore\n\n", 1)
    with pytest.raises(ProofFileInvalid, match="extension lines"):
        INSTANCE.proof(15, note=extended).pack()


def test_timestamps_that_do_not_hold(desk: Desk, tmp_path: Path) -> None:
    """A timestamp over other bytes is a contradiction; one of an unknown authority could not be judged."""
    authority = make_authority(tmp_path / "one")
    roots = desk.write("roots.pem", authority.roots_pem)
    token = authority.stamp(b"other bytes")
    proof = INSTANCE.proof(15, timestamps=[token])
    options = ("--timestamp-roots", roots, "--at", "2036-01-01")
    code, found = desk.json(proof, *options)
    assert (code, found["type"]) == (ExitCode.FOUND, "TimestampInvalid")
    desk.write("roots.pem", make_authority(tmp_path / "two", "Other TSA").roots_pem)
    code, found = desk.json(INSTANCE.proof(15, timestamps=[authority.stamp(INSTANCE.note(5))]), *options)
    assert (code, found["type"]) == (ExitCode.FAILED, "TimestampUntrusted")
    desk.write("roots.pem", b"nothing")
    code, found = desk.json(proof, *options)
    assert (code, found["type"]) == (ExitCode.FAILED, "ConfigError")


def test_usage(desk: Desk) -> None:
    """A missing or wrong file of the reader's is his to mend: exit code 2, with what is wrong."""
    for options in (
        ("--policy", desk.folder / "missing"),
        ("--policy", desk.folder),
        ("--policy", desk.write("large", b"#" * (POLICY_BYTES_MAX + 1))),
        ("--policy", desk.write("wrong", b"quorum\n")),
        ("--rotations", desk.write("records", b"nothing")),
        ("--payload", desk.write("payload", bytes(1_000_001))),
        ("--at", "yesterday"),
        ("--require", "chain"),
        ("--policy", "a\0b"),
    ):
        code, found = desk.json(EARLIER, *options)
        assert (code, bool(found["error"])) == (ExitCode.FAILED, True)


def test_now_by_default(desk: Desk, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --at the time is now."""
    path = desk.write("a.sealproof", EARLIER.pack())
    for now_seconds, code in ((NOW_SECONDS, ExitCode.OK), (SIGNED_SECONDS - 1_000, ExitCode.FAILED)):
        monkeypatch.setattr("sealstream.deploy.cli.reading.time.time", lambda now=now_seconds: float(now))
        assert main(["verify-proof", str(path), "--policy", str(desk.folder / "policy")]) == code
    assert "future" in capsys.readouterr().err


def test_no_time_of_a_broker(desk: Desk) -> None:
    """An entry without a broker's time is stated without one."""
    timeless = Instance((chain(TENANT, 2, received_seconds=0),), ((1,),))
    code, out, _ = desk.run(timeless.proof(0))
    assert (code, "received\t" in out) == (ExitCode.OK, False)
    assert desk.json(timeless.proof(0))[1]["received"] is None


def test_times_beyond_the_calendar(desk: Desk) -> None:
    """A broker's time that no calendar has is shown as what it is."""
    late = Instance((chain(TENANT, 3, received_seconds=2**62 // 1_000_000),), ((3,),))
    code, out, _ = desk.run(late.proof(2))
    assert (code, "s since 1970" in out) == (ExitCode.OK, True)


def test_damage_never_ends_in_a_traceback(desk: Desk) -> None:
    """Whichever byte of a file is changed, with a checksum that fits, the command says 1 or 2, and why."""
    data = EARLIER.pack()
    desk.write("policy", policy(2, 2).pack())
    for number, changed in enumerate(changed_bytes(data)):
        if number % 401 == 0:
            code, found = desk.json(rechecked(changed))
            assert code in (ExitCode.FOUND, ExitCode.FAILED) or rechecked(changed) == data
            assert found.get("error") or code == ExitCode.OK


NO_NETWORK: Final = """
import sys

def refuse(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        raise RuntimeError(event)

sys.addaudithook(refuse)
from sealstream.deploy.cli import main

code = main(sys.argv[1:])
loaded = {"confluent_kafka", "psycopg", "faust", "httpx", "urllib3", "requests"} & sys.modules.keys()
assert not loaded, loaded
sys.exit(code)
"""


def test_no_network(desk: Desk, tmp_path: Path) -> None:
    """It opens no socket, starts no process, loads no client of Kafka or a database, and reads no settings."""
    authority = make_authority(tmp_path / "authority")
    note = INSTANCE.note(5)
    proof = INSTANCE.proof(15, note=note, timestamps=[authority.stamp(note)])
    path, roots = desk.write("a.sealproof", proof.pack()), desk.write("roots.pem", authority.roots_pem)
    options = [str(path), "--policy", str(tmp_path / "policy"), "--timestamp-roots", str(roots), "--at", "2036-01-01"]
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "verify-proof", *options],
        env={"SEALSTREAM_DATABASE": "nonsense", "SEALSTREAM_NO_SUCH_SETTING": "1", "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "holds at the level anchored" in done.stdout
