"""Commands as an operator runs them: processes of their own, with nothing but an instance's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from sealstream.worker.settings import PREFIX
from support.workers import Pipeline

COMMAND_SECONDS = 120


def command(pipeline: Pipeline, *arguments: str, **settings: object) -> tuple[int, dict[str, Any]]:
    """Run a command of an instance with ``--json``; return its exit code and what it printed.

    Arguments:
        pipeline: The instance.
        arguments: The command line behind the program's name.
        settings: Settings that differ, by their names in lower case.
    """
    done = run_command(pipeline, *arguments, "--json", **settings)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def run_command(pipeline: Pipeline, *arguments: str, **settings: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command of an instance with nobody to answer its questions, and return what came of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    own = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "sealstream.deploy", *arguments],
        env=clean | pipeline.environment | own,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
