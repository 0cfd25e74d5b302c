"""Processes that verify pieces of the store, each with a connection of its own to the same snapshot.

Each is given one piece at a time and sends back what it came to, so nothing queues up. They end with the process that
started them, whatever ends that: what they send next finds no reader.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, TypeAlias

from sealstream.schemas.errors import SealstreamError, WorkerLost
from sealstream.sinks.verifier.checking import check_piece
from sealstream.sinks.verifier.ledger import Ledger
from sealstream.sinks.verifier.pieces import PartResult, Piece
from sealstream.sinks.verifier.stored_rows import StoreReader, open_store

REPORT_SECONDS: Final = 0.2
STOP_SECONDS: Final = 5.0
_SIGNALS: Final = (signal.SIGINT,)

_Answer: TypeAlias = "int | list[PartResult] | SealstreamError"
"""What a worker sends: entries that it has checked, what a piece came to, or why it cannot go on."""
Pipe: TypeAlias = "Connection[Any, Any]"


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Pipe
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class Crew:
    """Who verifies: this process, or several of their own.

    Arguments:
        database_url: The store.
        workers: How many processes there may be.
        piece_entries: About how many entries a piece has.
        timeout_seconds: How long the store may take for a single answer.
    """

    database_url: str
    workers: int
    piece_entries: int
    timeout_seconds: float

    def verify(self, ledger: Ledger, reader: StoreReader, entries: int) -> None:
        """Verify all pieces.

        Arguments:
            ledger: Gives the pieces, and takes what they come to.
            reader: The snapshot that all are to see.
            entries: About how many entries there are: what is not worth a process is done in this one.

        Raises:
            SealstreamError: The store cannot be read.
            WorkerLost: One of the processes ended.
        """
        snapshot = reader.snapshot()
        workers = min(self.workers, -(-entries // self.piece_entries))
        if workers > 1:
            _verify_in_processes(ledger, _Processes(self.database_url, snapshot, self.timeout_seconds), workers)
            return
        while (piece := ledger.next()) is not None:
            ledger.done(check_piece(reader, piece, ledger.checked))


def _verify_in_processes(ledger: Ledger, crew: _Processes, workers: int) -> None:
    try:
        while True:
            _give_out(ledger, crew, workers)
            busy = {worker.pipe: worker for worker in crew.workers if worker.is_busy}
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
                _take(busy[pipe], ledger)  # type: ignore[index]  # they are those that were given
    finally:
        crew.dismiss()


def _give_out(ledger: Ledger, crew: _Processes, workers: int) -> None:
    while True:
        idle = next((worker for worker in crew.workers if not worker.is_busy), None)
        if idle is None and len(crew.workers) >= workers:
            return
        piece = ledger.next()
        if piece is None:
            return
        worker = idle or crew.start()
        try:
            worker.pipe.send(piece)
        except OSError:
            raise _lost(worker) from None
        worker.is_busy = True


def _take(worker: _Worker, ledger: Ledger) -> None:
    try:
        answer: _Answer = worker.pipe.recv()
    except (EOFError, OSError):
        raise _lost(worker) from None
    if isinstance(answer, SealstreamError):
        raise answer
    if isinstance(answer, int):
        ledger.checked(answer)
        return
    worker.is_busy = False
    ledger.done(answer)


def _lost(worker: _Worker) -> WorkerLost:
    worker.process.join(STOP_SECONDS)
    code = worker.process.exitcode
    if code is not None and code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    else:
        how = f"ended with code {code}" if code is not None else "closed its pipe"
    return WorkerLost(
        f"a process that verified a part of the store {how}", hint="verify with fewer --workers, and look at its memory"
    )


class _Processes:
    """The processes that were started."""

    def __init__(self, database_url: str, snapshot: str, timeout_seconds: float) -> None:
        self.workers: list[_Worker] = []
        self._arguments = (database_url, snapshot, timeout_seconds)
        self._context = multiprocessing.get_context("spawn")

    def start(self) -> _Worker:
        """Start one more."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        worker = _Worker(process, ours)
        with _deaf():
            process.start()
            self.workers.append(worker)
        theirs.close()  # else the end of the process would not show at ours
        return worker

    def dismiss(self) -> None:
        """Let all of them end that have nothing to do, and end the others."""
        for worker in self.workers:
            if worker.is_busy:
                worker.process.terminate()
            worker.pipe.close()  # who waits for a piece finds the end
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()


@contextlib.contextmanager
def _deaf() -> Generator[None]:
    """Hold Ctrl-C back: a terminal sends it to all its processes, and only the first one is to decide what it means.

    What is blocked here is blocked in a process that is started here, for as long as it lives.
    """
    resource_tracker.ensure_running()  # else that would be started within, and lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- in the process ----------------------------------------------------------------------------------------------------


def _work(pipe: Pipe, database_url: str, snapshot: str, timeout_seconds: float) -> None:
    """Verify piece after piece, until the pipe ends."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # whom it was for has gone
        try:
            with open_store(database_url, timeout_seconds=timeout_seconds, snapshot=snapshot) as reader:
                for piece in _pieces(pipe):
                    report = _Report(pipe)
                    results = check_piece(reader, piece, report.add)
                    report.send()
                    pipe.send(results)
        except SealstreamError as error:
            pipe.send(error)


def _pieces(pipe: Pipe) -> Iterator[Piece]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


class _Report:
    """Sends now and then how many entries were checked."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._entries = 0
        self._due = time.monotonic() + REPORT_SECONDS

    def add(self, entries: int) -> None:
        """Count entries."""
        self._entries += entries
        if time.monotonic() >= self._due:
            self.send()

    def send(self) -> None:
        """Send what was counted."""
        self._pipe.send(self._entries)
        self._entries, self._due = 0, time.monotonic() + REPORT_SECONDS
