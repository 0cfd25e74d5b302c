"""The native module: it is built from its source, and makes of any records what Python makes of them."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.processors.ordinary import (
    NATIVE_DISTRIBUTION,
    NATIVE_PACKAGE,
    ChainOrdinary,
    Run,
    chain_ordinary,
    fastest,
)
from sealstream.schemas.errors import ConfigError
from support.model import SourceRecord
from support.native import build_native
from support.ordinary import assert_same, chain_in_parts, ordinary_logs
from support.publish import event_value

_CAN_BUILD = shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ChainOrdinary:
    """The native module, built once."""
    return build_native(tmp_path_factory.mktemp("native"))


@pytest.mark.slow
@pytest.mark.skipif(not _CAN_BUILD, reason="there is no C compiler, or Python's headers are missing")
class TestNative:
    """What is built of the source in this tree."""

    def test_it_makes_what_python_makes(self, native: ChainOrdinary) -> None:
        """Whatever the records and however they are cut, both make the same, and remember the same."""

        @given(records=ordinary_logs(), size=st.integers(1, 20))
        @settings(max_examples=200, deadline=None)
        def same(records: list[SourceRecord], size: int) -> None:
            assert_same(chain_in_parts(records, size, native), chain_in_parts(records, size))

        same()

    def test_it_takes_what_is_ordinary(self, native: ChainOrdinary) -> None:
        """It does not leave to Python what it is there for: behind the first record, all of these are ordinary."""
        taken: list[int] = []

        def counting(run: Run) -> None:
            native(run)
            taken.append(len(run.sealed))

        values = [event_value("t0", f"{n}-" + "x" * 60) for n in range(9)]
        chain_in_parts([SourceRecord(0, n, b"t0", value, 1) for n, value in enumerate(values)], 9, counting)

        assert taken == [0, len(values) + 1]


def test_without_it_python_does_it() -> None:
    """Where it is not wanted, pure Python chains; nothing has to be installed or compiled."""
    assert fastest(native=False) is chain_ordinary


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An installation whose module cannot be imported, and the versions that the distributions say they have."""
    package = ModuleType(NATIVE_PACKAGE)
    package.__spec__ = ModuleSpec(NATIVE_PACKAGE, None)
    monkeypatch.setitem(sys.modules, NATIVE_PACKAGE, package)
    monkeypatch.setitem(sys.modules, f"{NATIVE_PACKAGE}.ordinary", None)
    versions = {"sealstream": "1.2.3", NATIVE_DISTRIBUTION: "1.2.3"}
    monkeypatch.setattr("sealstream.processors.ordinary.version", versions.__getitem__)
    return versions


def test_one_that_cannot_be_loaded_is_an_error(installed: dict[str, str]) -> None:
    """An installation for another Python stops the worker with the way out, and is not passed over silently."""
    assert len(set(installed.values())) == 1
    with pytest.raises(ConfigError, match="sealstream-native cannot be loaded") as caught:
        fastest(native=True)
    assert "SEALSTREAM_NATIVE=false" in (caught.value.hint or "")


def test_one_of_another_version_is_an_error(installed: dict[str, str]) -> None:
    """A module that was left behind by an update is not used: it may not know a rule yet."""
    installed[NATIVE_DISTRIBUTION] = "1.2.2"
    with pytest.raises(ConfigError, match=r"sealstream-native 1\.2\.2 does not belong to sealstream 1\.2\.3"):
        fastest(native=True)


def test_both_distributions_have_one_version() -> None:
    """What is installed from one tree belongs together."""
    root = Path(__file__).resolve().parents[2]
    found = [
        tomllib.loads((root / path).read_text()) for path in ("pyproject.toml", "processors/native/pyproject.toml")
    ]

    assert found[0]["project"]["version"] == found[1]["project"]["version"]
