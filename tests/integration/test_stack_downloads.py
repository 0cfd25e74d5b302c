"""What the local stack downloads: from a repository over HTTP, only what was pinned, and only once."""

from __future__ import annotations

import gc
import hashlib
import http.server
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from sealstream.deploy.stack.artifacts import MAVEN_VARIABLE, Pin, check_classpath, fetch, read_pins
from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.kafka import KAFKA_VERSION

CONTENT = b"the jar" * 10_000
PIN = Pin(sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT), coordinate="org.example:program:1.0")
JAR_PATH = "/org/example/program/1.0/program-1.0.jar"


class Repository:
    """A Maven repository on loopback that answers as it is told.

    Attributes:
        bodies: What it serves for the jar, one for each request, the last one again and again; None means not found.
        requests: The paths that were asked for.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes | None] = [CONTENT]
        self.requests: list[str] = []
        self.announced_bytes: int | None = None
        repository = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Serve one request."""
        self.requests.append(request.path)
        body = None
        if request.path == JAR_PATH:
            body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        if body is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Repository]:
    """The repository that downloads go to; this machine's own Maven repository is out of sight."""
    running = Repository()
    monkeypatch.setenv(MAVEN_VARIABLE, running.url)
    monkeypatch.setenv("M2_REPO", str(tmp_path / "no-maven"))
    yield running
    running.close()


def _fetch(folder: Path, reports: list[str] | None = None, called_off: threading.Event | None = None) -> Path:
    (path,) = fetch(
        (PIN,),
        what="the program",
        folder=folder,
        called_off=called_off or threading.Event(),
        report=(reports if reports is not None else []).append,
    )
    return path


def test_a_file_is_fetched_once_and_then_needs_no_network(repository: Repository, tmp_path: Path) -> None:
    """The first call downloads and says so; later calls make no request."""
    reports: list[str] = []
    path = _fetch(tmp_path / "cache", reports)
    asked = len(repository.requests)

    assert path.read_bytes() == CONTENT
    assert reports == ["downloading the program: 0 of 0 MB"]
    assert _fetch(tmp_path / "cache") == path
    assert len(repository.requests) == asked
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["program-1.0.jar"]


def test_what_maven_has_already_is_not_downloaded(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jar in the user's Maven repository is taken from there, and left there."""
    local = tmp_path / "maven"
    jar = local.joinpath(*JAR_PATH.split("/"))
    jar.parent.mkdir(parents=True)
    jar.write_bytes(CONTENT)
    monkeypatch.setenv("M2_REPO", str(local))

    assert _fetch(tmp_path / "cache").read_bytes() == CONTENT
    assert jar.exists()
    assert repository.requests == []


def test_other_bytes_than_the_pinned_ones_are_refused(repository: Repository, tmp_path: Path) -> None:
    """A mirror that serves something else is named as such, and nothing of it is kept."""
    repository.bodies = [CONTENT[::-1]]
    with pytest.raises(StackError, match=r"org\.example:program:1\.0 for the program: .* pinned SHA-256"):
        _fetch(tmp_path / "cache")

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_broken_transfer_is_tried_again(repository: Repository, tmp_path: Path) -> None:
    """A connection that breaks off in the middle costs another request, not the start."""
    repository.bodies = [CONTENT[:1000], CONTENT]

    assert _fetch(tmp_path / "cache").read_bytes() == CONTENT
    assert repository.requests.count(JAR_PATH) == 2


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_missing_file_is_an_error_with_the_ways_out(repository: Repository, tmp_path: Path) -> None:
    """After a few tries, the error names the file and what a user can set."""
    repository.bodies = [None]
    with pytest.raises(StackError, match=r"cannot download org\.example:program:1\.0") as caught:
        _fetch(tmp_path / "cache")

    assert repository.requests.count(JAR_PATH) == 3
    for variable in (MAVEN_VARIABLE, "HTTPS_PROXY", "SEALSTREAM_KAFKA"):
        assert variable in caught.value.hint
    # jgo leaves the answer to a missing file unclosed until its exception is collected: here, not in another test
    del caught
    gc.collect()


def test_a_download_can_be_called_off(repository: Repository, tmp_path: Path) -> None:
    """Once the start is given up, no request is made any more."""
    called_off = threading.Event()
    called_off.set()
    with pytest.raises(StackError, match="called off"):
        _fetch(tmp_path / "cache", called_off=called_off)

    assert repository.requests == []


def test_kafkas_list_of_pins_is_whole() -> None:
    """Each jar of Kafka is pinned once, by digest and size, and no two share a file name."""
    pins = read_pins(f"kafka-{KAFKA_VERSION}.pins")

    assert f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}" in {pin.coordinate for pin in pins}
    assert all(len(bytes.fromhex(pin.sha256)) == 32 and pin.size_bytes > 0 for pin in pins)
    assert len({pin.coordinate.split(":")[1] for pin in pins}) == len(pins)


def test_a_path_that_java_cannot_take_is_refused(tmp_path: Path) -> None:
    """A class path's separator in a directory's name is refused before Java misreads it."""
    with pytest.raises(StackError, match="its name contains ':'"):
        check_classpath((tmp_path / "a:b" / "program.jar",))
