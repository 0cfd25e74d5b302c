"""Where the local stack keeps things, and which ports it takes."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sealstream.deploy.stack import StackError, cache_directory, default_directory
from sealstream.deploy.stack.account import Account, may_pass
from sealstream.deploy.stack.locations import make_directory
from sealstream.deploy.stack.ports import free_port, is_free
from sealstream.deploy.stack.processes import tail

NOBODY = Account(uid=65_534, gid=65_534)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what this machine sets."""
    for name in ("SEALSTREAM_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")


def test_the_directory_follows_xdg_and_can_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and downloads lie where the XDG specification says; SEALSTREAM_HOME moves the data."""
    assert default_directory() == Path("/home/somebody/.local/share/sealstream")
    assert cache_directory() == Path("/home/somebody/.cache/sealstream")

    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert default_directory() == Path("/data/sealstream")
    assert cache_directory() == Path("/home/somebody/.cache/sealstream")

    monkeypatch.setenv("SEALSTREAM_HOME", "/elsewhere")
    assert default_directory() == Path("/elsewhere")


def test_without_home_the_account_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset or empty HOME, as under some process managers, falls back to the account's home directory."""
    monkeypatch.setenv("HOME", "")
    assert default_directory().is_absolute()
    assert default_directory() != Path("/.local/share/sealstream")


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    """A chosen port is free, is not chosen twice, and cannot be taken by a client's connection meanwhile."""
    port = free_port()
    assert 20_000 <= port < 61_000
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)
    low = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if low.exists():
        assert port < max(int(low.read_text().split()[0]), 32_768)


@pytest.mark.skipif(sys.platform != "linux", reason="a port cannot be held for a server elsewhere")
def test_a_chosen_port_is_kept_for_its_server() -> None:
    """Until its server listens, and while that is stopped, no other process chooses the same port."""
    port = free_port()
    choosing = f"from sealstream.deploy.stack import ports; print(ports._hold({port}))"
    for _ in range(2):
        rival = subprocess.run([sys.executable, "-c", choosing], capture_output=True, text=True, check=True)
        assert rival.stdout == "False\n"
        with socket.create_server(("127.0.0.1", port)) as server:  # as servers do, with SO_REUSEADDR
            socket.create_connection(server.getsockname()).close()


def test_reach_is_judged_along_the_whole_path(tmp_path: Path) -> None:
    """One closed directory on the way keeps another account out, whatever lies below it."""
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True)
    inner.chmod(0o755)
    inner.parent.chmod(0o700)
    assert not may_pass(inner, NOBODY)
    assert may_pass(Path("/"), NOBODY)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A directory that cannot be made is an error with the path, not a traceback from deep within."""
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="file") as caught:
        make_directory(tmp_path / "file")
    assert "--dir" in caught.value.hint


def test_an_errors_log_tail_is_short(tmp_path: Path) -> None:
    """Of a long log, an error shows the last lines; a log that is missing is no second error."""
    log = tmp_path / "server.log"
    log.write_text("".join(f"line {n}\n" for n in range(10_000)))
    shown = tail(log, tmp_path / "missing").splitlines()

    assert shown[-1] == "  line 9999"
    assert len(shown) == 20
    assert "line 9999" in str(StackError("it failed", log_tail="\n".join(shown)))
