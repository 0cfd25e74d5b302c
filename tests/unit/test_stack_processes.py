"""Child processes of the local stack."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psutil
import pytest

from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.processes import run_tool
from sealstream.deploy.stack.waiting import Wait

_CHILD = "import time; print('child runs', flush=True); time.sleep(600)"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}])"


def test_a_tool_that_is_called_off_takes_its_children_along(tmp_path: Path) -> None:
    """When `run_tool` is called off, nothing that the tool has started goes on."""
    called_off = threading.Event()
    log = tmp_path / "tool.log"
    outcome: list[StackError] = []

    def run() -> None:
        with pytest.raises(StackError) as caught:
            run_tool(
                [sys.executable, "-c", _PARENT],
                what="tool",
                directory=tmp_path,
                log=log,
                wait=Wait("tool", seconds=60, called_off=called_off),
            )
        outcome.append(caught.value)

    before = set(psutil.Process().children(recursive=True))
    thread = threading.Thread(target=run)
    thread.start()
    while not log.exists() or "child runs" not in log.read_text():
        thread.join(0.02)
    family = set(psutil.Process().children(recursive=True)) - before
    called_off.set()
    thread.join(30)

    assert len(outcome) == 1
    assert len(family) == 2
    assert [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE] == []
