"""API keys: made once, kept as digests, taken until they are revoked or expire."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealstream.deploy.cli import main
from sealstream.producers.gateway.api_keys import KEYS_MAX, ApiKeys, new_key
from sealstream.producers.gateway.key_file import LOOK_SECONDS, WatchedKeys, edit_keys, read_keys
from sealstream.schemas.errors import ConfigError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class TestTaking:
    """Which keys are taken."""

    def test_a_key_opens_its_tenant_alone(self) -> None:
        """A key gives what it was made for."""
        key, token = new_key(name="ci", tenant="acme", actions=("document.",), events_per_second=5)
        found = ApiKeys([key]).credential(token.encode(), NOW)

        assert found is not None
        assert (found.tenant, found.events_per_second) == ("acme", 5)
        assert found.allows("document.updated")
        assert not found.allows("user.deleted")
        assert key.secret_sha256.hex() not in token

    @pytest.mark.parametrize("change", ["secret", "id", "cut", "empty", "other"])
    def test_no_other_token_is_taken(self, change: str) -> None:
        """A wrong secret, a wrong id, a cut token or another key's secret opens nothing."""
        key, token = new_key(name="", tenant="acme")
        other, other_token = new_key(name="", tenant="other")
        wrong = {
            "secret": f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
            "id": token.replace(key.id, "0" * 16),
            "cut": token[:-5],
            "empty": f"sealstream_{key.id}_",
            "other": token.replace(key.id, other.id),
        }[change]

        assert ApiKeys([key, other]).credential(wrong.encode(), NOW) is None
        assert ApiKeys([key, other]).credential(other_token.encode(), NOW) is not None

    def test_a_key_ends(self) -> None:
        """From its time on an expired key is not taken, and a revoked one at once."""
        key, token = new_key(name="", tenant="acme", expires=NOW)
        keys = ApiKeys([key])

        assert keys.credential(token.encode(), NOW - timedelta(seconds=1)) is not None
        assert keys.credential(token.encode(), NOW) is None
        assert keys.revoked(key.id, NOW).credential(token.encode(), NOW - timedelta(seconds=1)) is None


class TestFile:
    """The file that holds them."""

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        """Every field comes back, and no secret stands in the file."""
        file = tmp_path / "keys.json"
        key, token = new_key(name="ci", tenant="acme", actions=("a.", "b."), events_per_second=2.5, expires=NOW)
        edit_keys(file, lambda keys: keys.added(key))
        edit_keys(file, lambda keys: keys.revoked(key.id, NOW))

        assert list(read_keys(file)) == [replace(key, revoked=NOW)]
        assert token.rpartition("_")[2] not in file.read_text(encoding="utf-8")

    def test_two_editors_lose_nothing(self, tmp_path: Path) -> None:
        """Keys that are made at the same time are all there."""
        file = tmp_path / "keys.json"
        made = [new_key(name="", tenant="acme")[0] for _ in range(8)]
        threads = [threading.Thread(target=edit_keys, args=(file, adding(key))) for key in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {key.id for key in read_keys(file)} == {key.id for key in made}

    def test_a_file_that_others_may_write_is_refused(self, tmp_path: Path) -> None:
        """Who could write to it could make keys."""
        file = tmp_path / "keys.json"
        edit_keys(file, lambda keys: keys.added(new_key(name="", tenant="acme")[0]))
        file.chmod(0o662)

        with pytest.raises(ConfigError, match="others may write"):
            read_keys(file)

    @pytest.mark.parametrize(
        ("members", "words"),
        [
            ({"id": "x"}, "hexadecimal"),
            ({"tenant": "!"}, "tenant"),
            ({"tenant": 5}, "API key 0"),
            ({"actions": "document."}, "list"),
            ({"actions": [""]}, "actions"),
            ({"events_per_second": 0}, "events_per_second"),
            ({"secret_sha256": "ab"}, "secret_sha256"),
            ({"created": "2026-01-31"}, "zone"),
            ({"expires": "soon"}, "API key 0"),
            ({"more": 1}, "members"),
        ],
    )
    def test_what_is_no_key_is_refused(self, members: dict[str, Any], words: str) -> None:
        """A mistake in the file is named by its place, and no key of it is taken."""
        document = json.loads(ApiKeys([new_key(name="", tenant="acme")[0]]).format())
        document["keys"][0] |= members

        with pytest.raises(ConfigError, match=words):
            ApiKeys.parse(json.dumps(document).encode())

    @pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": 2, "keys": []}', b"[" * 100_000, b"\xff"])
    def test_what_is_no_file_is_refused(self, data: bytes) -> None:
        """Another file than one of keys is no empty one."""
        with pytest.raises(ConfigError, match="the file of API keys"):
            ApiKeys.parse(data)

    def test_the_same_id_twice_and_too_many_are_refused(self) -> None:
        """An id is one key's, and the file has a bound."""
        key = new_key(name="", tenant="acme")[0]
        with pytest.raises(ConfigError, match="same id"):
            ApiKeys([key, key])
        with pytest.raises(ConfigError, match="more than"):
            ApiKeys(replace(key, id=f"{number:016x}") for number in range(KEYS_MAX + 1))


def adding(key: Any) -> Callable[[ApiKeys], ApiKeys]:
    """Return an edit that adds a key."""
    return lambda keys: keys.added(key)


def test_a_change_is_seen_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    """A revoked key is gone a second later; a file that cannot be read is reported, and the keys stay as they were."""
    seconds = [0.0]
    file = tmp_path / "keys.json"
    key, token = new_key(name="", tenant="acme")
    edit_keys(file, lambda keys: keys.added(key))
    watched = WatchedKeys(file, now=lambda: seconds[0])
    file.write_text("{", encoding="utf-8")
    seconds[0] += LOOK_SECONDS

    assert watched.keys().credential(token.encode(), NOW) is not None
    assert "no JSON" in watched.problem

    file.write_bytes(ApiKeys([key]).revoked(key.id, NOW).format())
    assert watched.keys().credential(token.encode(), NOW) is not None, "it looks once a second"
    seconds[0] += LOOK_SECONDS
    assert watched.keys().credential(token.encode(), NOW) is None
    assert watched.problem == ""


def test_keys_are_made_shown_and_revoked_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key is printed once; the list shows whose it is and never the key."""
    file = str(tmp_path / "keys.json")
    assert main(["gateway-keys", "new", file, "--tenant", "acme", "--name", "ci", "--action", "a.", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["gateway-keys", "revoke", file, made["id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["revoked"] is not None
    assert main(["gateway-keys", "list", file]) == 0
    shown = capsys.readouterr().out

    assert made["id"] in shown
    assert made["key"] not in shown
    assert main(["gateway-keys", "revoke", file, "0" * 16]) == 2
    assert main(["gateway-keys", "new", file, "--tenant", "!"]) == 2
