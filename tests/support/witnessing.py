"""Logs that ask a witness, and witnesses that are asked: within the test, or as processes of their own over HTTP."""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.key_history import KeyHistory, Rotation
from sealstream.schemas.merkle import EMPTY_ROOT, leaf_hash, root
from sealstream.schemas.notation import encode_base64
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.schemas.policy import Log, Policy
from sealstream.schemas.proofs import consistency_proof, nodes_of
from sealstream.sinks.witness.beginning import Beginning, begin
from sealstream.sinks.witness.cosigning import Cosigner
from sealstream.sinks.witness.judging import Judge, PlainJudge
from sealstream.sinks.witness.memory import Memory
from sealstream.sinks.witness.protocol import KnownLogs
from sealstream.worker.settings import PREFIX
from support.notes import LOG, NOW_SECONDS, signer
from support.workers import Worker, wait_for

WITNESS: Final = signer("w.example/witness", KeyType.COSIGNATURE)
ML_DSA_WITNESS: Final = signer("w.example/witness", KeyType.COSIGNATURE_ML_DSA_44)
START_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 60.0
_LISTENING: Final = re.compile(r'"event": "witness listening".*"port": (\d+)')
DIRECTLY: Final = (sys.executable, "-m", "sealstream.sinks.witness")


class WitnessedLog:
    """A log of which every size can be shown.

    Arguments:
        words: What its leaves are.
        key: The key that signs it; its name is the origin.
    """

    def __init__(self, words: Sequence[str], key: SignerKey = LOG) -> None:
        self.key = key
        self.leaves = [leaf_hash(word.encode()) for word in words]

    @classmethod
    def of(cls, size: int, key: SignerKey = LOG) -> Self:
        """Return a log of so many leaves; of two of them the smaller one is the larger one's beginning."""
        return cls([f"leaf {number}" for number in range(size)], key)

    def fork(self, at: int, name: str = "other") -> WitnessedLog:
        """Return a log with another history from a leaf on, and as many leaves."""
        forked = WitnessedLog((), self.key)
        changed = [leaf_hash(f"{name} {number}".encode()) for number in range(at, len(self.leaves))]
        forked.leaves = [*self.leaves[:at], *changed]
        return forked

    def checkpoint(self, size: int) -> Checkpoint:
        """Return what the log says of itself at a size."""
        value = root(self.leaves[:size]) if size else EMPTY_ROOT
        return Checkpoint(self.key.verifier.name, size, value)

    def note(self, size: int) -> bytes:
        """Return the same, signed."""
        return sign_note(self.checkpoint(size).pack(), [self.key])

    def body(self, old_size: int, size: int, *, more: bytes = b"") -> bytes:
        """Return the request to cosign the log at a size.

        Arguments:
            old_size: The size that the witness is believed to remember.
            size: The size to be cosigned.
            more: More signature lines.
        """
        proof = consistency_proof(old_size, size, nodes_of(self.leaves)) if old_size <= size else []
        return request_body(old_size, proof, self.note(size) + more)


def request_body(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return a request of its parts."""
    lines = (encode_base64(one) + b"\n" for one in proof)
    return b"".join((b"old %d\n" % old_size, *lines, b"\n", note))


def policy_of(*keys: SignerKey) -> Policy:
    """Return a witness's policy: logs, and nothing that it asks of others."""
    return Policy(tuple(Log(key.verifier) for key in keys), (), (), "none")


POLICY: Final = policy_of(LOG)


@dataclass
class Clock:
    """A clock that a test sets."""

    seconds: int = NOW_SECONDS

    def __call__(self) -> float:
        """Return the time."""
        return float(self.seconds)


def open_memory(path: Path, key: SignerKey = WITNESS, *, rotations: Sequence[Rotation] = ()) -> Memory:
    """Open a witness's memory."""
    return Memory(path, key=key.verifier, history=KeyHistory(rotations), now_seconds=NOW_SECONDS)


def open_cosigner(
    memory: Memory,
    *,
    policy: Policy | None = None,
    key: SignerKey = WITNESS,
    judge: Judge | None = None,
    clock: Clock | None = None,
    beginning: Beginning = Beginning(trust_first_use=True),  # noqa: B008  # it is a value
    rotations: Sequence[Rotation] = (),
) -> Cosigner:
    """Return a cosigner that may begin with whatever a log shows first, if not told otherwise."""
    logs = KnownLogs(policy or policy_of(LOG), KeyHistory(rotations))
    if beginning.checkpoint is not None:
        begin(memory, logs, key, beginning, judge or PlainJudge(), now_seconds=NOW_SECONDS)
    return Cosigner(
        memory, logs, key, judge or PlainJudge(), trust_first_use=beginning.trust_first_use, clock=clock or Clock()
    )


def cosign(cosigner: Cosigner, body: bytes) -> bytes:
    """Ask a cosigner as its server does, and return the cosignature's line."""
    admitted = cosigner.admit(body)
    cosigner.judge(admitted)
    return cosigner.cosign(admitted).lines


@dataclass(frozen=True)
class Answer:
    """What a witness answered over HTTP."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes


class WitnessProcess(Worker):
    """A witness as production runs it, on free ports.

    Arguments:
        directory: Where its memory and its log are; the same one again continues it.
        options: Its options.
        key: The key to cosign with.
        policy: Its policy; ``None`` for none.
        command: How it is started.
        settings: More settings by their names in lower case.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        key: SignerKey = WITNESS,
        policy: Policy | None = POLICY,
        command: Sequence[str] = DIRECTLY,
        **settings: object,
    ) -> None:
        values = {
            "witness_key": key.secret(),
            "witness_path": directory / "witness.sqlite",
            "policy": "" if policy is None else policy.pack().decode(),
            **settings,
        }
        environment = {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}
        number = len(list(directory.glob("*.log")))
        super().__init__("witness", environment, directory / f"{number}.log", command=[*command, *options])

    @cached_property
    def port(self) -> int:
        """The port at which it takes checkpoints, once it does."""
        wait_for(
            lambda: bool(self._ports()) or self.process.poll() is not None,
            timeout_seconds=START_SECONDS,
            what="the witness's port",
        )
        assert self._ports(), self.report()
        return self._ports()[-1]

    def ask(self, body: bytes, *, path: str = "/add-checkpoint", method: str = "POST") -> Answer:
        """Send one request, and return the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body or None)
            answer = connection.getresponse()
            return Answer(
                answer.status, answer.getheader("content-type", ""), answer.getheader("retry-after"), answer.read()
            )
        finally:
            connection.close()

    def _ports(self) -> list[int]:
        return [int(found) for found in _LISTENING.findall(self.log())]  # its last line may be half written
