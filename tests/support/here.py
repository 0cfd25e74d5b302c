"""Commands in the test's own process: as the command line runs them, without a process's second to start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import pytest

from sealstream.deploy.cli.application import run
from sealstream.worker.settings import PREFIX


def command_here(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: Mapping[str, str],
    *arguments: str,
    **settings: object,
) -> tuple[int, dict[str, Any]]:
    """Run a command with ``--json``; return its exit code and what it printed.

    Arguments:
        monkeypatch: The test's.
        capsys: The test's.
        environment: Its variables, with their whole names; no other setting is there.
        arguments: The command line behind the program's name.
        settings: More settings by their names in lower case.
    """
    own = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
    with monkeypatch.context() as patched:
        for name in os.environ:
            if name.startswith(PREFIX):
                patched.delenv(name)
        for name, value in {**environment, **own}.items():
            patched.setenv(name, value)
        code = run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)
