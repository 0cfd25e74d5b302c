"""A person's shell: the command line as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

COMMAND_SECONDS = 90


class Shell:
    """A shell with settings of its own.

    Arguments:
        settings: The settings.
    """

    def __init__(self, **settings: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SEALSTREAM_")}
        self.environment = clean | settings

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "sealstream.deploy", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """Run a command with --json, and return what it printed."""
        return json.loads(self.run(*arguments, "--json").stdout)
