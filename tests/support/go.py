"""Programs in Go that stand in the tests' tree: built once for a test session, and asked one line of JSON at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

_DOWNLOAD_TIMEOUT_SECONDS: Final = 120
_BUILD_TIMEOUT_SECONDS: Final = 170
ORACLES: Final = Path(__file__).parents[1] / "oracles"


def go_program(folder: Path, directory: Path) -> Path:
    """Build a Go program, and return the executable.

    The test is skipped where there is no Go, an older one than the program's, or no way to its modules; a program that
    does not compile fails it.

    Arguments:
        folder: Where its ``go.mod`` stands.
        directory: Where the executable is put.
    """
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, so nobody else's implementation can be asked: install Go 1.26 or newer")
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    download = subprocess.run(
        [go, "mod", "download"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_DOWNLOAD_TIMEOUT_SECONDS,
        check=False,
    )
    if download.returncode:
        pytest.skip(f"Go cannot get the modules of {folder.name}: {download.stderr.strip()[-300:]}")
    program = directory / folder.name
    subprocess.run(
        [go, "build", "-o", str(program), "."], cwd=folder, env=environment, timeout=_BUILD_TIMEOUT_SECONDS, check=True
    )
    return program


class Oracle:
    """A running program that answers each line of JSON with one.

    Arguments:
        program: The executable.
    """

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        """Return the answer to a question."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"do": do, **question}) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, f"the oracle ended with code {self._process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()  # its end of work
