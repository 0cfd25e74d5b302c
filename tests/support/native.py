"""Builds the processor's native module as an installation does, but leaves it where only the test sees it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import cast

from sealstream.processors.ordinary import ChainOrdinary

SOURCE = Path(__file__).resolve().parents[2] / "processors" / "native"
BUILD_SECONDS = 150.0
_BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"


def build_native(directory: Path) -> ChainOrdinary:
    """Build the distribution ``sealstream-native`` in a directory, and load what chains ordinary records from it."""
    copy, wheels, unpacked = directory / "source", directory / "wheels", directory / "unpacked"
    shutil.copytree(SOURCE, copy)
    wheels.mkdir()
    built = subprocess.run(
        [sys.executable, "-c", _BUILD, str(wheels)], cwd=copy, capture_output=True, timeout=BUILD_SECONDS, check=False
    )
    assert built.returncode == 0, built.stderr.decode(errors="replace")[-3000:]
    [wheel] = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    [library] = (unpacked / "sealstream" / "native").glob("ordinary.*.so")
    spec = importlib.util.spec_from_file_location("sealstream.native.ordinary", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop(spec.name, None)  # as if it were not installed
    return cast("ChainOrdinary", module.chain_ordinary)
