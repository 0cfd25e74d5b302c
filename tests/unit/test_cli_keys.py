"""``sealstream keys``: keys are made, shown and rotated, and no private one is ever printed or overwritten."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from sealstream.deploy.cli import main
from sealstream.deploy.cli.output import ExitCode
from sealstream.schemas.key_history import DatedKey, KeyHistory, parse_rotations
from sealstream.schemas.note_key import KeyType, VerifierKey
from sealstream.schemas.policy import Policy
from sealstream.worker.key_file import read_key
from sealstream.worker.settings import load_settings
from support.notes import ORIGIN

Captured = pytest.CaptureFixture[str]


def keys(capsys: Captured, *arguments: str | Path, code: int = ExitCode.OK) -> Any:
    """Run a command with --json, and return what it printed."""
    assert main(["keys", *map(str, arguments), "--json"]) == code
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


@pytest.fixture
def log_key(tmp_path: Path, capsys: Captured) -> Path:
    """A log's key."""
    keys(capsys, "new", ORIGIN, "--file", tmp_path / "log.key")
    return tmp_path / "log.key"


@pytest.mark.parametrize(
    ("options", "key_type"),
    [
        ([], KeyType.ED25519),
        (["--role", "log"], KeyType.ED25519),
        (["--role", "witness"], KeyType.COSIGNATURE),
        (["--algorithm", "ml-dsa-44"], KeyType.COSIGNATURE_ML_DSA_44),
        (["--role", "witness", "--algorithm", "ml-dsa-44"], KeyType.COSIGNATURE_ML_DSA_44),
    ],
)
def test_new(tmp_path: Path, capsys: Captured, options: list[str], key_type: KeyType) -> None:
    """A new key is in a file for its owner alone; printed is the verifier key, and nothing of the private one."""
    path = tmp_path / "new.key"
    assert main(["keys", "new", ORIGIN, "--file", str(path), *options]) == ExitCode.OK
    printed = capsys.readouterr()

    key = read_key(path)
    assert (key.verifier.name, key.verifier.type) == (ORIGIN, key_type)
    assert VerifierKey.parse(printed.out.removesuffix("\n")) == key.verifier
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = key.secret_pem().decode().splitlines()[1]
    for text in (printed.out, printed.err):
        assert secret[-24:] not in text
        assert key.secret().split("+", 4)[4] not in text


def test_new_never_overwrites(log_key: Path, capsys: Captured) -> None:
    """A second key does not take the first one's file."""
    before = log_key.read_bytes()
    error = keys(capsys, "new", ORIGIN, "--file", log_key, code=ExitCode.FAILED)
    assert "exists" in error["error"]
    assert error["hint"]
    assert log_key.read_bytes() == before


def test_new_refuses_a_name(tmp_path: Path, capsys: Captured) -> None:
    """A name that no note can have makes no key and no file."""
    error = keys(capsys, "new", "two words", "--file", tmp_path / "a.key", code=ExitCode.FAILED)
    assert "two words" in error["error"]
    assert "example.com" in error["hint"]
    assert list(tmp_path.iterdir()) == []


def test_rotate(log_key: Path, capsys: Captured) -> None:
    """A rotation makes a key and a record that both keys have signed, and the list shows when each is in use."""
    directory = log_key.parent
    options = ("--new-from", "2026-05-01", "--old-until", "2026-05-02T03:04:05+00:00")
    made = keys(
        capsys, "rotate", log_key, "--file", directory / "new.key", "--record", directory / "1.rotation", *options
    )
    (rotation,) = parse_rotations((directory / "1.rotation").read_bytes())
    old, new = read_key(log_key).verifier, read_key(directory / "new.key").verifier

    assert (made["old"]["vkey"], made["new"]["vkey"]) == (str(old), str(new))
    assert (made["new_from"], made["old_until"]) == ("2026-05-01T00:00:00+00:00", "2026-05-02T03:04:05+00:00")
    assert KeyHistory([rotation]).lineage(old) == (
        DatedKey(old, 0, 1_777_691_045),
        DatedKey(new, 1_777_593_600, None),
    )
    rows = keys(capsys, "list", directory)
    assert [(row["vkey"], row["from"], row["until"]) for row in rows] == [
        (str(old), None, "2026-05-02T03:04:05+00:00"),
        (str(new), "2026-05-01T00:00:00+00:00", None),
    ]
    assert main(["keys", "list", str(directory)]) == ExitCode.OK
    text = capsys.readouterr().out
    assert f"log, Ed25519\t{new.key_id.hex()}\t2026-05-01T00:00:00+00:00" in text


def test_rotate_to_ml_dsa(log_key: Path, capsys: Captured) -> None:
    """A key of Ed25519 may be followed by one of ML-DSA-44, and never the other way."""
    directory = log_key.parent
    rotate = ("rotate", log_key, "--file", directory / "new.key", "--record", directory / "1.rotation")
    assert "ML-DSA-44" in keys(capsys, *rotate, "--algorithm", "ml-dsa-44")["new"]["type"]
    back = ("rotate", directory / "new.key", "--file", directory / "b.key", "--record", directory / "2.rotation")
    error = keys(capsys, *back, "--algorithm", "ed25519", code=ExitCode.FAILED)
    assert "not followed" in error["error"]
    assert not (directory / "b.key").exists()
    assert "ML-DSA-44" in keys(capsys, *back)["new"]["type"]


def test_rotate_leaves_nothing_half_done(log_key: Path, capsys: Captured) -> None:
    """Where a file is in the way or cannot be written, there is neither a new key nor a record, and the old stays."""
    directory = log_key.parent
    (directory / "taken").write_text("something")
    for file, record in (
        (directory / "taken", directory / "1.rotation"),
        (directory / "new.key", directory / "taken"),
        (directory / "new.key", directory / "missing" / "1.rotation"),
        (log_key, directory / "1.rotation"),
    ):
        error = keys(capsys, "rotate", log_key, "--file", file, "--record", record, code=ExitCode.FAILED)
        assert error["hint"]
        assert sorted(path.name for path in directory.iterdir()) == ["log.key", "taken"]


def test_a_key_is_rotated_once(log_key: Path, capsys: Captured) -> None:
    """A second record for one key is not made where the first one lies: with both, nobody would know which holds."""
    directory = log_key.parent
    keys(capsys, "rotate", log_key, "--file", directory / "a.key", "--record", directory / "1.rotation")
    error = keys(
        capsys, "rotate", log_key, "--file", directory / "b.key", "--record", directory / "2.rotation",
        code=ExitCode.FAILED,
    )  # fmt: skip
    assert "rotated already" in error["error"]
    assert not (directory / "b.key").exists()


def test_list_says_what_cannot_be_used(log_key: Path, capsys: Captured) -> None:
    """A file that others may read, and one that is no key, are named with the reason, beside the sound ones."""
    directory = log_key.parent
    keys(capsys, "new", "w.example", "--role", "witness", "--file", directory / "open.key")
    (directory / "open.key").chmod(0o644)
    (directory / "torn.key").write_bytes(log_key.read_bytes()[:80])
    (directory / "torn.key").chmod(0o600)

    rows = {Path(row["file"]).name: row for row in keys(capsys, "list", directory, code=ExitCode.FAILED)}

    assert rows["log.key"]["name"] == ORIGIN
    assert "problem" not in rows["log.key"]
    assert "0644" in rows["open.key"]["problem"]
    assert "neither" in rows["torn.key"]["problem"] or "PKCS8" in rows["torn.key"]["problem"]


def test_list_refuses_a_record_that_does_not_hold(log_key: Path, capsys: Captured) -> None:
    """A record that was changed is named, and nothing is listed by it."""
    directory = log_key.parent
    record = directory / "1.rotation"
    keys(capsys, "rotate", log_key, "--file", directory / "new.key", "--record", record)
    record.write_bytes(record.read_bytes().replace(b"old-not-after 1", b"old-not-after 2"))

    error = keys(capsys, "list", directory, code=ExitCode.FAILED)

    assert "1.rotation" in error["error"]
    assert "does not verify" in error["error"]


@pytest.mark.parametrize("arguments", [("list", "."), ("list", "missing.key"), ("list", "missing.rotation")])
def test_list_of_nothing(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Where there is nothing to list, the command says so and does not succeed."""
    monkeypatch.chdir(tmp_path)
    assert main(["keys", *arguments]) == ExitCode.FAILED
    printed = capsys.readouterr()
    assert "there is no" in printed.err or "cannot be read" in printed.out + printed.err


def test_times_are_explained(log_key: Path, capsys: Captured) -> None:
    """A time that is none is wrong usage."""
    new = ("--file", log_key.parent / "n.key", "--record", log_key.parent / "r.rotation", "--new-from", "tomorrow")
    error = keys(capsys, "rotate", log_key, *new, code=ExitCode.FAILED)
    assert "ISO 8601" in error["error"]


def test_secret_is_for_its_owner_alone_and_never_made_twice(tmp_path: Path, capsys: Captured) -> None:
    """What hides the tenants' names is 32 random bytes that the settings take, in a file that nobody else reads."""
    path = tmp_path / "map.secret"
    assert main(["keys", "secret", "--file", str(path)]) == ExitCode.OK
    text = path.read_text()
    printed = capsys.readouterr()

    assert text.strip() not in printed.out + printed.err
    assert (
        len(bytes.fromhex(load_settings({"SEALSTREAM_MAP_SECRET_FILE": str(path)}).map_secret.get_secret_value())) == 32
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["keys", "secret", "--file", str(path)]) == ExitCode.FAILED
    assert path.read_text() == text


@pytest.mark.parametrize(("quorum", "threshold"), [([], 2), (["--quorum", "1"], 1)])
def test_policy_says_whom_its_reader_believes(
    tmp_path: Path, capsys: Captured, log_key: Path, quorum: list[str], threshold: int
) -> None:
    """A policy is written of keys as they were printed or as their files have them, and is what verifiers read."""
    own = keys(capsys, "new", "w1.test/w", "--role", "witness", "--file", tmp_path / "w1.key")["vkey"]
    keys(capsys, "new", "w2.test/w", "--role", "witness", "--file", tmp_path / "w2.key")
    file = tmp_path / "policy"
    witnesses = ["--witness", f"one={own}@https://w1.test/", "--witness", f"two={tmp_path / 'w2.key'}"]
    keys(capsys, "policy", log_key, "--file", file, *witnesses, *quorum)
    policy = Policy.parse(file.read_bytes())

    assert policy.logs[0].key == read_key(log_key).verifier
    assert [(one.name, one.key.name, one.url) for one in policy.witnesses] == [
        ("one", "w1.test/w", "https://w1.test/"),
        ("two", "w2.test/w", ""),
    ]
    assert policy.satisfied({"one"}) is (threshold == 1)
    assert policy.satisfied({"one", "two"})


def test_policy_without_witnesses_asks_for_none(tmp_path: Path, capsys: Captured, log_key: Path) -> None:
    """Who names no witness gets a policy that says so; a quorum of nobody is refused."""
    keys(capsys, "policy", log_key, "--file", tmp_path / "policy")
    assert Policy.parse((tmp_path / "policy").read_bytes()).quorum == "none"
    assert main(["keys", "policy", str(log_key), "--file", str(tmp_path / "other"), "--quorum", "1"]) == ExitCode.FAILED
    assert not (tmp_path / "other").exists()
