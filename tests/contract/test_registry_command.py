"""``sealstream schemas`` against a real registry: exit codes, JSON, and what is said to whoever did something wrong."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sealstream.deploy.cli.application import run
from sealstream.schemas.codec import schema_fingerprint, schema_text
from sealstream.worker.settings import PREFIX
from support.here import command_here

DOCUMENT: dict[str, Any] = json.loads(schema_text("AuditEvent"))
COLOUR: dict[str, Any] = {"name": "colour", "type": ["null", "string"], "default": None}
Schemas = Callable[..., tuple[int, dict[str, Any]]]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def schemas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Schemas:
    """Run a command of the group with ``--json``, with settings that no other test has."""
    environment = {f"{PREFIX}TOPIC_PREFIX": f"schemas-{uuid.uuid4().hex[:8]}."}
    return partial(command_here, monkeypatch, capsys, environment, "schemas")


def _file(directory: Path, *fields: dict[str, Any]) -> str:
    path = directory / f"{uuid.uuid4().hex}.avsc"
    path.write_text(json.dumps(DOCUMENT | {"fields": [*fields]}))
    return str(path)


def test_a_version_is_checked_registered_and_shown(schemas: Schemas, registry_url: str, tmp_path: Path) -> None:
    """Before anything is registered the check says so with code 1; a later version may be checked beforehand."""
    later = _file(tmp_path, *DOCUMENT["fields"], COLOUR)
    code, before = schemas("check", registry=registry_url)
    assert (code, len(before["problems"])) == (1, 2)
    code, checked = schemas("check", later, registry=registry_url)
    assert (code, checked["schema_id"]) == (0, None)

    code, first = schemas("register", "--no-chains", registry=registry_url)
    assert (code, first["registered"]["is_new"], first["declared"]) == (0, True, 0)
    code, second = schemas("register", later, "--no-chains", registry=registry_url)
    assert (code, second["registered"]["fingerprint"]) == (0, checked["fingerprint"])

    schema_id = second["registered"]["schema_id"]
    code, shown = schemas("show", registry=registry_url)
    assert (code, shown["compatibility"]) == (0, "FULL_TRANSITIVE")
    assert [one["is_shipped"] for one in shown["versions"]] == [True, False]
    code, text = schemas("show", "--id", str(schema_id), registry=registry_url)
    assert (code, json.loads(text["text"])["fields"][-1]["name"]) == (0, "colour")
    assert schemas("check", registry=registry_url)[0] == 0
    assert schemas("check", later, registry=registry_url)[1]["schema_id"] == schema_id


def test_without_a_registry_the_shipped_schema_is_shown_and_files_are_held_to_the_rules(
    schemas: Schemas, tmp_path: Path
) -> None:
    """A change can be checked where it is made, before there is a way to the registry."""
    code, shown = schemas("show")
    assert (code, shown["fingerprint"], shown["text"]) == (
        0,
        schema_fingerprint("AuditEvent").hex(),
        schema_text("AuditEvent"),
    )
    assert schemas("check", _file(tmp_path, *DOCUMENT["fields"], COLOUR))[0] == 0


def test_what_may_not_be_a_version_ends_with_code_1(schemas: Schemas, registry_url: str, tmp_path: Path) -> None:
    """A changed prefix and a field without a default are refused by check and register alike; nothing is registered."""
    shifted = _file(tmp_path, COLOUR, *DOCUMENT["fields"])
    incompatible = _file(tmp_path, *DOCUMENT["fields"], {"name": "colour", "type": "string"})
    for file in (shifted, incompatible):
        for arguments in (("check", file), ("register", file, "--no-chains")):
            code, found = schemas(*arguments, registry=registry_url)
            assert (code, found["type"], bool(found["hint"])) == (1, "SchemaRefused", True)
    assert schemas("show", registry=registry_url)[1]["versions"] == []


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (("register", "missing.avsc", "--no-chains"), {}, "missing.avsc cannot be read"),
        (("register",), {"registry": NOWHERE, "kafka": "127.0.0.1:9"}, "which chains there are is not known"),
        (("register",), {"registry": NOWHERE}, "SEALSTREAM_KAFKA"),
        (("register", "--no-chains"), {}, "no registry is configured"),
        (("register", "--no-chains"), {"registry": NOWHERE}, "does not answer"),
        (("register", "--tenant", "no tenant"), {"kafka": "127.0.0.1:9"}, "'no tenant' is no tenant"),
        (("register", "--tenant", "a"), {"kafka": "127.0.0.1:9", "operators": "0" * 64}, "must sign"),
        (("check",), {}, "nothing to check"),
        (("check",), {"registry": "nonsense"}, "URL cannot be used"),
        (("show",), {"registry": NOWHERE}, "does not answer"),
        (("show", "--id", "1"), {}, "no registry is configured"),
    ],
)
def test_what_cannot_be_done_ends_with_code_2(
    schemas: Schemas, arguments: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    """Wrong usage, missing settings and a registry that is away are told apart from a schema that is refused."""
    code, found = schemas(*arguments, **settings)
    assert (code, said in found["error"] + found["hint"]) == (2, True), found


def test_a_person_reads_lines_instead_of_json(
    registry_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command says in words what it did or found."""
    monkeypatch.setenv(f"{PREFIX}REGISTRY", registry_url)
    monkeypatch.setenv(f"{PREFIX}TOPIC_PREFIX", f"schemas-{uuid.uuid4().hex[:8]}.")
    said: list[str] = []
    for arguments, code in [
        (("check",), 1),
        (("register", "--no-chains"), 0),
        (("register", "--no-chains"), 0),
        (("check",), 0),
        (("show",), 0),
    ]:
        assert run(["schemas", *arguments]) == code
        said.append(capsys.readouterr().out)
    assert ["is not registered" in said[0], "is registered as" in said[1], "was registered before" in said[2]] == [
        True
    ] * 3
    assert (said[3], "FULL_TRANSITIVE" in said[4]) == ("nothing is wrong\n", True)
