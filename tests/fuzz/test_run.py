"""The command that fuzzes, as far as it goes without atheris."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")
WITHOUT_ATHERIS = """
import importlib.util, runpy, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "atheris" else found(name, *rest)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_without_atheris() -> None:
    """Where atheris is not installed the command says how to get it, and does not pass for a run."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ATHERIS, str(RUN), "--seconds", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "uv pip install atheris" in done.stderr
