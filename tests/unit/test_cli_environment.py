"""The environment that workers are started with, and that a person's shell can read."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from sealstream.deploy.environment import as_writer, instance_environment, write_environment


def test_what_is_replaced_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that was given as a file and is replaced reaches a worker once, and other settings as they are."""
    for name in [name for name in os.environ if name.startswith("SEALSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SEALSTREAM_DATABASE_FILE", "/run/secrets/database")
    monkeypatch.setenv("SEALSTREAM_PARTITIONS", "8")
    monkeypatch.setenv("SEALSTREAM_HOME", "/somewhere")

    environment = instance_environment({"database": "postgresql://x"})

    assert environment == {"SEALSTREAM_DATABASE": "postgresql://x", "SEALSTREAM_PARTITIONS": "8"}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("postgresql://u:p@127.0.0.1:5432/x", "-c role=sealstream_writer"),
        ("postgresql://u@h/x?sslmode=require", "-c role=sealstream_writer"),
        ("postgresql://u@h/x?options=-c%20a%3Db", "-c a=b -c role=sealstream_writer"),
    ],
)
def test_the_sink_gets_a_writers_rights(url: str, options: str) -> None:
    """The sink's session begins with the writer's rights, whatever else the URL says."""
    parts = urlsplit(as_writer(url))
    query = parse_qs(parts.query)

    assert query.pop("options") == [options]
    assert query == {name: values for name, values in parse_qs(urlsplit(url).query).items() if name != "options"}
    assert parts._replace(query="") == urlsplit(url)._replace(query="")


def test_a_shell_can_read_the_file_and_others_cannot(tmp_path: Path) -> None:
    """A shell reads the written settings back byte for byte; only the user may read the file."""
    hostile = 'it\'s $HOME `id` "quoted" \\ end'
    path = write_environment(tmp_path, {"SEALSTREAM_DATABASE": hostile, "SEALSTREAM_WORKER_ID": "ours"})

    shell = f'. {path}; printf "%s" "$SEALSTREAM_DATABASE"; printf "%s" "${{SEALSTREAM_WORKER_ID-unset}}"'
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, timeout=10, check=True, env={})

    assert done.stdout == f"{hostile}unset"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
