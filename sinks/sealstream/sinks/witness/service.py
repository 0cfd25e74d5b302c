"""The witness worker: opens its memory, serves until it is told to stop, and ends if its memory fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from sealstream.schemas.errors import (
    ConfigError,
    FormatError,
    KeyInvalid,
    SealstreamError,
    UnsafeState,
    Untrusted,
    WorkerLost,
)
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.keys import parse_key
from sealstream.schemas.note_key import COSIGNATURE_TYPES, SignerKey, check_supported
from sealstream.sinks.witness.beginning import Beginning, begin
from sealstream.sinks.witness.cosigning import FAILPOINTS, Cosigner
from sealstream.sinks.witness.judging import Judge, PlainJudge
from sealstream.sinks.witness.memory import Memory
from sealstream.sinks.witness.protocol import KnownLogs
from sealstream.sinks.witness.server import WitnessServer
from sealstream.worker import logs
from sealstream.worker.evidence_settings import key_history_of, policy_of
from sealstream.worker.failpoints import Failpoints
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings, load_settings
from sealstream.worker.stop import END_SECONDS, StopSignal
from sealstream.worker.web import WorkerWeb

STOPPED: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
"""The exit code where a setting, a file, a flag, or the checkpoint to begin with is wrong, and nothing has begun."""

_LOOK_SECONDS: Final = 0.5


class Witness:
    """The worker: everything it holds, from the memory to the two ports.

    Arguments:
        settings: Its settings.
        beginning: How it may begin with logs of which it remembers nothing.
        recompute: Whether it cosigns only what it has recomputed from Kafka.
        stop: Tells it to stop.
    """

    def __init__(self, settings: Settings, beginning: Beginning, *, recompute: bool, stop: StopSignal) -> None:
        self._settings = settings
        self._beginning = beginning
        self._recompute = recompute
        self._stop = stop
        self._failure: SealstreamError | None = None
        self._server: WitnessServer | None = None
        self._cosigner: Cosigner | None = None
        self.cannot_begin = False
        """Whether the checkpoint that was given is none to begin with."""

    def healthy(self) -> bool:
        """Return whether the server's loop turns."""
        return self._server is None or self._server.healthy()

    def ready(self) -> tuple[bool, str]:
        """Return whether checkpoints can be cosigned, and in words what is waited for."""
        return (False, "starting") if self._cosigner is None else self._cosigner.ready()

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            SealstreamError: A setting is wrong, the memory is another's or cannot be written, or the server has ended.
        """
        settings = self._settings
        key, known, history = witness_key(settings), known_logs(settings), key_history_of(settings)
        path = _path(settings)
        check_in_use(key, history, now_seconds=int(time.time()))
        failpoints = Failpoints.from_environment(FAILPOINTS)
        with ExitStack() as stack:
            memory = Memory(path, key=key.verifier, history=history, now_seconds=int(time.time()))
            stack.callback(memory.close)
            judge = self._open_judge(path)
            stack.callback(judge.close)
            self._begin(memory, known, key, judge)
            trust = self._beginning.trust_first_use
            self._cosigner = Cosigner(memory, known, key, judge, trust_first_use=trust, failpoints=failpoints)
            self._server = WitnessServer(
                self._cosigner, settings.witness_host, settings.witness_port, on_failure=self._fail
            )
            stack.callback(self._server.stop)
            self._server.start()
            self._serve(self._server)

    def _begin(self, memory: Memory, known: KnownLogs, key: SignerKey, judge: Judge) -> None:
        try:
            begin(memory, known, key, self._beginning, judge, now_seconds=int(time.time()))
        except (Untrusted, UnsafeState):
            self.cannot_begin = True
            raise

    def _serve(self, server: WitnessServer) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            if self._failure is not None:
                raise self._failure
            if not server.alive():
                raise WorkerLost("the witness's server has ended", hint="its log says why; start it again")

    def _open_judge(self, path: Path) -> Judge:
        if not self._recompute:
            return PlainJudge()
        # A plain witness runs where there is no Kafka, and without what reads it.
        from sealstream.sinks.witness.recomputing.judge import open_judge  # noqa: PLC0415

        return open_judge(self._settings, path)

    def _fail(self, error: SealstreamError) -> None:
        self._failure = self._failure or error


def witness_key(settings: Settings) -> SignerKey:
    """Return the key to cosign with.

    Raises:
        ConfigError: It is not set, or none to cosign with.
        KeyInvalid: It is no key.
    """
    text = settings.witness_key.get_secret_value()
    if not text:
        raise ConfigError(
            "SEALSTREAM_WITNESS_KEY is not set", hint="sealstream keys new NAME --role witness --file witness.key"
        )
    try:
        key = parse_key(text)
    except KeyInvalid as error:
        raise KeyInvalid(f"SEALSTREAM_WITNESS_KEY: {error.message}", hint=error.hint) from error
    if key.verifier.type not in COSIGNATURE_TYPES:
        raise ConfigError(
            f"SEALSTREAM_WITNESS_KEY is the key of a log, {key.verifier.name}",
            hint="sealstream keys new NAME --role witness --file witness.key",
        )
    check_supported(key.verifier.type)
    return key


def known_logs(settings: Settings) -> KnownLogs:
    """Return the logs of the policy.

    Raises:
        ConfigError: No policy is set.
        FormatError: Policy or rotations do not parse.
        HistoryForked: The rotations contradict each other.
    """
    return KnownLogs(policy_of(settings), key_history_of(settings))


def check_in_use(key: SignerKey, history: KeyHistory, *, now_seconds: int) -> None:
    """Refuse a key whose cosignatures count for nobody who has the same records.

    Raises:
        ConfigError: The key is not in use yet, or no longer.
    """
    verifier = key.verifier
    (dated,) = (dated for dated in history.lineage(verifier) if dated.key == verifier)
    if not dated.in_use(now_seconds):
        raise ConfigError(
            f"the key {verifier.name}+{verifier.key_id.hex()} is not in use, by the records of rotations",
            hint="give the key that is in SEALSTREAM_WITNESS_KEY",
        )


def _path(settings: Settings) -> Path:
    if settings.witness_path is None:
        raise ConfigError("SEALSTREAM_WITNESS_PATH is not set", hint="name a file on a local disk that is kept")
    return settings.witness_path


def run(settings: Settings, beginning: Beginning | None = None, *, recompute: bool = False) -> int:
    """Run the witness until SIGTERM or SIGINT.

    Returns:
        The process's exit code: 0 after an orderly stop; 1 after an error that needs a person; 2 where a setting, a
        file or a flag is wrong.
    """
    logs.configure("witness", level=settings.log_level, format=settings.log_format)
    stop = StopSignal()
    stop.install(end_within_seconds=END_SECONDS)
    witness = Witness(settings, beginning or Beginning(), recompute=recompute, stop=stop)
    web: WorkerWeb | None = None
    try:
        web = WorkerWeb(settings.web_host, settings.web_port, healthy=witness.healthy, ready=witness.ready)
        web.start()
        witness.run()
    except SealstreamError as error:
        logger().error(error.message, error=type(error).__name__, hint=error.hint)
        return UNUSABLE if witness.cannot_begin or isinstance(error, ConfigError | FormatError) else FAILED
    finally:
        if web is not None:
            web.stop()
    logger().info("stopped")
    return STOPPED


def main(arguments: Sequence[str]) -> int:
    """Run the witness with the settings of the environment, and return its exit code.

    Arguments:
        arguments: The options of ``sealstream witness``.
    """
    parser = argparse.ArgumentParser(prog="python -m sealstream.sinks.witness")
    parser.add_argument("--from-checkpoint", type=Path, metavar="FILE")
    parser.add_argument("--trust-first-use", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
    except SealstreamError as error:
        sys.stderr.write(f"{error}\n")
        return UNUSABLE
    return run(settings, Beginning(given.from_checkpoint, given.trust_first_use), recompute=given.recompute)
