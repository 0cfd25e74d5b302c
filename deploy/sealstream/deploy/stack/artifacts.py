"""Java programs from Maven Central, pinned by SHA-256, fetched once into the user's cache.

Each program has a list (``*.pins``) of the files that it consists of: SHA-256, size in bytes, and the Maven coordinate
``group:artifact:version``, with ``:classifier:packaging`` where it is not a plain jar. ``pin.py`` makes such a list.
A file is used only if it has the listed digest, so neither a mirror nor a broken transfer can put other code in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jgo.constants import default_maven_repo
from jgo.maven import Artifact, MavenContext, PythonResolver

from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.locations import make_directory
from sealstream.deploy.stack.waiting import Wait

MAVEN_VARIABLE = "SEALSTREAM_MAVEN_URL"
_AT_ONCE = 6
_ATTEMPTS_MAX = 3
_RETRY_SECONDS = 0.5
_READ_TIMEOUT_SECONDS = 20
_DOWNLOAD_SECONDS_MAX = 900.0
_REPORT_SECONDS = 1.0
_MEGABYTE = 1_000_000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One file of a program: where it comes from and what it must be.

    Arguments:
        sha256: Its SHA-256, in hex.
        size_bytes: Its size.
        coordinate: Its Maven coordinate, as in the list.
    """

    sha256: str
    size_bytes: int
    coordinate: str

    def artifact(self, context: MavenContext) -> Artifact:
        """Give the file as jgo knows it."""
        group, name, version, *rest = self.coordinate.split(":")
        classifier, packaging = rest or ("", "jar")
        return context.project(group, name).at_version(version).artifact(classifier, packaging)


def read_pins(name: str) -> tuple[Pin, ...]:
    """Read a list of pins that lies beside this module.

    Arguments:
        name: The list's file name, for example ``kafka-4.1.0.pins``.
    """
    text = files("sealstream.deploy.stack").joinpath(name).read_text(encoding="ascii")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(Pin(sha256=digest, size_bytes=int(size), coordinate=coordinate) for digest, size, coordinate in rows)


def fetch(
    pins: tuple[Pin, ...],
    *,
    what: str,
    folder: Path,
    called_off: threading.Event,
    report: Callable[[str], None],
) -> tuple[Path, ...]:
    """Give the paths of these files, after downloading what is missing. If all are there, the network is not used.

    Arguments:
        pins: The files.
        what: The program's name and version, for progress and errors.
        folder: Where the files are kept; created if missing.
        called_off: Ends the download early once it is set.
        report: Told, now and then, how far the download is.

    Raises:
        StackError: A file cannot be downloaded, or is not the one that was pinned, or cannot be kept.
    """
    context = _context(None)
    targets = {pin: folder / pin.artifact(context).filename for pin in pins}
    missing = [pin for pin, target in targets.items() if not _is_kept(target, pin)]
    if missing:
        make_directory(folder)
        download = _Download(what, missing, called_off=called_off, report=report)
        try:
            # In the target's file system, so that a finished file is put in place by one rename.
            with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as repository:
                download.run(Path(repository), targets)
        except OSError as error:
            raise StackError(f"cannot keep {what} in {folder}: {error}", hint="set XDG_CACHE_HOME") from error
    return tuple(targets.values())


def check_classpath(paths: tuple[Path, ...]) -> str:
    """Join jars to a class path.

    Raises:
        StackError: A path contains the separator, which Java cannot escape.
    """
    if any(os.pathsep in str(path) for path in paths):
        raise StackError(
            f"Java cannot use {paths[0].parent}: its name contains {os.pathsep!r}", hint="set XDG_CACHE_HOME"
        )
    return os.pathsep.join(str(path) for path in paths)


class _Download:
    """Several files at a time, with one progress over all of them."""

    def __init__(
        self, what: str, pins: list[Pin], *, called_off: threading.Event, report: Callable[[str], None]
    ) -> None:
        self._what = what
        self._pins = pins
        self._report = report
        self._wait = Wait(f"the download of {what}", seconds=_DOWNLOAD_SECONDS_MAX, called_off=called_off)
        self._total_bytes = sum(pin.size_bytes for pin in pins)
        self._lock = threading.Lock()
        # Guarded by the lock:
        self._received_bytes = 0
        self._reported_at = 0.0
        self._stopped = False

    def run(self, repository: Path, targets: dict[Pin, Path]) -> None:
        """Download all files into a scratch repository, and move each to its target once it is known to be right."""
        context = _context(repository, progress=self._progress)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="download") as pool:
            futures = [pool.submit(self._one, context, pin, targets[pin]) for pin in self._pins]
            try:
                self._collect(futures)
            finally:
                self._stopped = True
                for future in futures:
                    future.cancel()

    def _collect(self, futures: list[Future[None]]) -> None:
        for future in as_completed(futures):
            future.result()

    def _one(self, context: MavenContext, pin: Pin, target: Path) -> None:
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            self._wait.check()
            try:
                path = pin.artifact(context).resolve()
                break
            # jgo raises RuntimeError for "not found"; what requests raises is an OSError
            except (OSError, RuntimeError) as error:
                _forget(context, pin)
                if attempt == _ATTEMPTS_MAX:
                    raise self._failed(pin, str(error)) from error
                self._wait.pause(_RETRY_SECONDS * attempt)
        else:
            raise AssertionError  # the last attempt returns or raises
        if _sha256(path) != pin.sha256:
            raise self._failed(pin, "what was received does not have the pinned SHA-256")
        if context.repo_cache in path.parents:
            path.replace(target)
        else:
            _copy(path, target)

    def _failed(self, pin: Pin, reason: str) -> StackError:
        return StackError(
            f"cannot download {pin.coordinate} for {self._what}: {reason}",
            hint=f"check the network, HTTPS_PROXY and REQUESTS_CA_BUNDLE, set {MAVEN_VARIABLE} to a mirror of Maven "
            "Central, or use servers that you have with SEALSTREAM_KAFKA and SEALSTREAM_DATABASE",
        )

    @contextlib.contextmanager
    def _progress(self, _name: str, _size_bytes: int) -> Generator[Callable[[int], None]]:
        yield self._received

    def _received(self, count_bytes: int) -> None:
        # jgo calls this for each chunk: the one place to leave a download that is no longer wanted.
        self._wait.check()
        if self._stopped:
            raise StackError(f"the download of {self._what} was stopped")
        with self._lock:
            self._received_bytes += count_bytes
            now = time.monotonic()
            if now - self._reported_at < _REPORT_SECONDS:
                return
            self._reported_at = now
            done, total = self._received_bytes / _MEGABYTE, self._total_bytes / _MEGABYTE
        self._report(f"downloading {self._what}: {done:.0f} of {total:.0f} MB")


def _context(
    repository: Path | None,
    progress: Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]] | None = None,
) -> MavenContext:
    mirror = os.environ.get(MAVEN_VARIABLE)
    return MavenContext(
        resolver=PythonResolver(progress_callback=progress),
        repo_cache=repository,
        # What a Maven on this machine has fetched already need not be fetched again; its digest is checked as well.
        local_repos=[default_maven_repo()],
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        timeout=_READ_TIMEOUT_SECONDS,
    )


def _forget(context: MavenContext, pin: Pin) -> None:
    """Remove what a broken transfer left, which jgo would take for the whole file."""
    partial = pin.artifact(context).cached_path
    if partial is not None:
        partial.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    new = target.with_name(f".{target.name}.{os.getpid()}")
    new.write_bytes(source.read_bytes())
    # If we die here, the copy without its final name is never used.
    new.replace(target)


def _is_kept(path: Path, pin: Pin) -> bool:
    try:
        return path.stat().st_size == pin.size_bytes
    except OSError:
        return False  # to be fetched


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
