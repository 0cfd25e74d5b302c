"""The command ``sealstream``.

Each group of commands is a module here. A module imports only what draws the command line; what a command works with is
imported when it runs, so that ``sealstream --help`` is quick and a role's image needs only that role's packages.
"""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code.

    Arguments:
        arguments: The command line behind the program's name; the process's own by default.
    """
    # An application that only publishes has the script, but not the packages that it needs.
    if importlib.util.find_spec("typer") is None:
        sys.stderr.write("error: the command line is not installed\nhint: pip install 'sealstream[cli]'\n")
        return 2
    from sealstream.deploy.cli.application import run

    return run(sys.argv[1:] if arguments is None else list(arguments))
