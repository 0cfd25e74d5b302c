"""Which processes are there: to show that none is left."""

from __future__ import annotations

from pathlib import Path

import psutil


def processes_in(directory: Path) -> list[str]:
    """Return the command lines of all processes that have to do with a directory."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        place = str(process.info["cwd"] or "")
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(directory) in f"{words} {place}":
            found.append(words)
    return found
