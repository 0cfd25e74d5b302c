"""Looks for inputs that break a reader of foreign bytes, guided by which code they reach: atheris (libFuzzer) runs it.

    python tests/fuzz/run.py --seconds 60            # every target, one after the other
    python tests/fuzz/run.py --seconds 600 policy    # one

It ends with 1 if it has found something, and says where the input is kept: in the folder for temporary files. Corpora
grow in a folder of yours (``--corpus``), or are thrown away.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fuzz.target import Target

TESTS: Final = Path(__file__).resolve().parents[1]
INPUT_BYTES_MAX: Final = 20_000
INPUT_SECONDS_MAX: Final = 20
MEMORY_MIB_MAX: Final = 2_048
NOT_INSTALLED: Final = 2
FOUND: Final = 1
_ONE: Final = "SEALSTREAM_FUZZ_ONE"  # set in the process of one target, which atheris never returns from


def main(arguments: Sequence[str]) -> int:
    """Run the targets that the command line names, each in a process of its own."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of foreign bytes, guided by coverage.")
    parser.add_argument("targets", nargs="*", help="names of targets; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs")
    parser.add_argument("--corpus", type=Path, help="a folder in which inputs that reach new code are kept")
    parser.add_argument("--list", action="store_true", help="list the targets")
    chosen = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed, and the project does not need it: uv pip install atheris\n")
        return NOT_INSTALLED
    known = _targets()
    if chosen.list:
        sys.stdout.write("".join(f"{name}\n" for name in known))
        return 0
    if unknown := set(chosen.targets) - known.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="sealstream-fuzz-") as scratch:
        corpus = chosen.corpus or Path(scratch)
        found = [name for name in chosen.targets or known if not _run(known[name], chosen.seconds, corpus / name)]
    sys.stdout.write(f"found something in: {', '.join(found)}\n" if found else "found nothing\n")
    return FOUND if found else 0


def _targets() -> dict[str, Target]:
    sys.path.insert(0, str(TESTS))
    targets: dict[str, Target] = importlib.import_module("fuzz.targets").TARGETS
    return targets


def _run(target: Target, seconds: int, corpus: Path) -> bool:
    """Run one target in a process of its own; return whether it found nothing."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-artifact_prefix={tempfile.gettempdir()}/sealstream-{target.name}-",
        "-print_final_stats=1",
    ]
    command = [sys.executable, __file__, *options, str(corpus)]
    sys.stdout.write(f"== {target.name}\n")
    sys.stdout.flush()
    done = subprocess.run(
        command,
        env=os.environ | {_ONE: target.name},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + 120,
        check=False,
    )
    lines = done.stdout.splitlines()
    shown = lines[-60:] if done.returncode else [line for line in lines if line.startswith(("Done ", "stat::number"))]
    sys.stdout.write("".join(f"{line}\n" for line in shown))
    return done.returncode == 0


def _fuzz(name: str) -> None:
    """Fuzz one target; does not return."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["sealstream"]):
        target = _targets()[name]
    atheris.Setup(sys.argv, target.taken)
    atheris.Fuzz()


if __name__ == "__main__":
    if _ONE in os.environ:
        _fuzz(os.environ[_ONE])
    sys.exit(main(sys.argv[1:]))
