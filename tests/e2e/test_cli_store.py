"""Searching, showing and verifying on the command line, on a store that the real workers have filled."""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest

from sealstream.producers import SyncAuditLog
from sealstream.schemas.event import Actor, AuditEvent, Outcome, Target
from support.shell import Shell
from support.workers import Pipeline, wait_for

EVENTS = 12


@pytest.fixture
def shell(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> Generator[Shell]:
    """Return a shell for an instance whose workers run, with twelve events of two tenants in its store."""
    pipeline = Pipeline(kafka_bootstrap, f"cli-{uuid.uuid4().hex[:8]}", tmp_path, database_url=database_url)
    shell = Shell(**pipeline.environment)
    for command in (("topics", "create"), ("migrate",)):
        assert shell.run(*command).returncode == 0
    try:
        for role in ("processor", "sink"):
            pipeline.start(role)
        with SyncAuditLog(kafka=kafka_bootstrap, instance=pipeline.genesis.instance, topics=pipeline.topics) as audit:
            for number in range(EVENTS):
                audit.log(_event(number))
        wait_for(lambda: _searchable(database_url) == EVENTS, timeout_seconds=60, what="the events to be searchable")
        yield shell
    finally:
        pipeline.close()


def _event(number: int) -> AuditEvent:
    return AuditEvent(
        id=f"ev-{number}",
        tenant=("acme", "globex")[number % 2],
        actor=Actor("user", f"u-{number % 3}", "Zoë \x1b[31mRed"),
        action=("document.updated", "session.created")[number % 2],
        targets=(Target("document", f"d-{number}"),),
        outcome=Outcome.SUCCESS,
        metadata={"field": "title"},
    )


def _searchable(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM sealstream.events").fetchone()
    return 0 if row is None else int(row[0])


def test_the_store_is_searched_shown_and_verified(shell: Shell, database_url: str) -> None:
    """Events are found by what they say, page by page; an event's record names its place and hashes; what is not there
    is an error with a hint; and once a stored payload is edited, `verify` and `show` name tenant and seq, with code 1.
    """
    check_search(shell)
    check_show(shell)
    check_what_is_not_there(shell)
    check_verify(shell)
    check_an_edited_payload(shell, database_url)


def check_search(shell: Shell) -> None:
    """Events are found by what they say, page by page."""
    first = shell.json("search", "--tenant", "acme", "--limit", "4")
    second = shell.json("search", "--tenant", "acme", "--limit", "4", "--cursor", first["cursor"])
    assert [event["event_id"] for event in first["events"]] == ["ev-10", "ev-8", "ev-6", "ev-4"]
    assert [event["event_id"] for event in second["events"]] == ["ev-2", "ev-0"]
    assert second["cursor"] is None
    found = shell.run("search", "--tenant", "globex", "--actor", "u-1", "--action", "session.*").stdout.splitlines()
    assert [line.split("\t")[-1] for line in found] == ["id", "ev-7", "ev-1"]
    assert "Zoë \\x1b[31mRed" in found[1]


def check_show(shell: Shell) -> None:
    """An event's record names its place in the chain and its hashes, for programs and for people."""
    (match,) = shell.json("show", "ev-3")["matches"]
    text = shell.run("show", "ev-3", "--tenant", "globex").stdout
    assert (match["tenant"], match["seq"], match["kind"]) == ("globex", 2, "event")
    assert match["event"]["actor"]["id"] == "u-0"
    assert match["event"]["metadata"] == {"field": "title"}
    assert f"chain hash\t{match['chain_hash']}\n" in text
    assert "\x1b" not in text


def check_what_is_not_there(shell: Shell) -> None:
    """What is not there is an error with a hint, or plainly said."""
    without = shell.run("search")
    assert (without.returncode, without.stderr) == (
        2,
        "error: --tenant is not given\nhint: the store has acme, globex\n",
    )
    for command in (("show", "nobody-knows"), ("verify", "--tenant", "nobody"), ("violations", "explain", "f00d")):
        done = shell.run(*command)
        assert done.returncode == 2, done
        assert done.stderr.startswith("error: ")
        assert "\nhint: " in done.stderr
    assert shell.run("violations", "list").stdout == "no violations\n"
    assert shell.json("violations", "explain", "gap")["explanation"]["type"] == "gap"


def check_verify(shell: Shell) -> None:
    """A clean store, and a part of it, verify with exit code 0; a level that is not reached does not."""
    clean = shell.run("verify", "--json")
    assert clean.returncode == 0
    result = json.loads(clean.stdout)
    assert (result["entries"], result["chains"], result["checked_through"]) == (14, 2, {"acme": 6, "globex": 6})
    assert result["not_excluded"]
    assert shell.run("verify", "--tenant", "acme", "--from", "2", "--to", "3").stdout.startswith("clean: 2 entries")
    assert shell.run("verify", "--require", "witnessed").returncode == 2


def check_an_edited_payload(shell: Shell, database_url: str) -> None:
    """An edited payload is named with its tenant and seq, with exit code 1."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("UPDATE sealstream.payloads SET bytes = 'x' WHERE tenant = 'globex' AND seq = 2")
    edited = shell.run("verify")
    assert edited.returncode == 1
    assert "payload-altered\tglobex\t2\t" in edited.stdout
    assert "violation payload-altered: tenant globex, seq 2" in edited.stdout
    damaged = shell.run("show", "ev-3", "--json")
    assert damaged.returncode == 1
    assert "globex" in json.loads(damaged.stdout)["error"]
