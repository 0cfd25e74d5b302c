"""Failpoints: named places in a worker at which a test makes it fail, exactly there and no sooner.

They are armed by one variable of the environment and by nothing else; a worker with an armed one says so in its log.
Where none is armed, a place holds a function that does nothing, bound once: it costs one call, and places are passed
once a transaction or an assignment, never once a record.

``SEALSTREAM_FAILPOINTS`` holds clauses separated by ``;``, each ``POINT[#PASSAGE]=ACTION[@FILE]``:

==================================  ===================================================================================
``after-produce=kill``              the process kills itself (SIGKILL) when it first passes there
``after-produce#3=raise``           the third passage raises :class:`FailpointReached`
``during-commit=pause@/tmp/here``   the passage makes the file, and goes on when somebody has removed it
``after-heads=kill@/tmp/here``      the same, and then the process kills itself
==================================  ===================================================================================

With a file, a test knows that the worker is there, does from outside what no worker could do to itself (stop it, kill
its broker, cut its connection), and lets it go on by removing the file.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, cast

from sealstream.kafka.patience import call_beside
from sealstream.schemas.errors import ConfigError
from sealstream.worker.logs import logger

T = TypeVar("T")
Action = Literal["kill", "raise", "pause"]

VARIABLE: Final = "SEALSTREAM_FAILPOINTS"
PAUSE_SECONDS_MAX: Final = 120.0
"""After this a passage goes on although its file is still there: no wait is without a bound."""

_LOOK_SECONDS: Final = 0.005
_CLAUSE: Final = re.compile(r"(?P<name>[a-z-]+)(#(?P<passage>[1-9][0-9]{0,8}))?=(?P<action>[a-z]+)(@(?P<file>.+))?")


class FailpointReached(RuntimeError):
    """What an armed failpoint raises; nothing in the product handles it, so it stands for any unexpected error."""


@dataclass(slots=True)
class _Armed:
    """One armed place; it acts once."""

    name: str
    passage: int
    action: Action
    file: Path | None
    passed: int = 0

    def __call__(self) -> None:
        """Count a passage, and act if it is the one.

        Raises:
            FailpointReached: The action is ``raise``.
        """
        self.passed += 1
        if self.passed != self.passage:
            return
        logger().warning("failpoint reached", failpoint=self.name, action=self.action, passage=self.passage)
        if self.file is not None:
            self._pause(self.file)
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "raise":
            raise FailpointReached(f"failpoint {self.name}")

    def _pause(self, file: Path) -> None:
        file.write_text(f"{self.name}\n")
        deadline = time.monotonic() + PAUSE_SECONDS_MAX
        while file.exists():
            if time.monotonic() >= deadline:
                logger().error("failpoint was never let go", failpoint=self.name, file=str(file))
                return
            time.sleep(_LOOK_SECONDS)


class Failpoints:
    """The armed failpoints of one worker.

    Arguments:
        text: What is armed, in the form that the module describes; empty for nothing.
        names: The places that the worker has.

    Raises:
        ConfigError: The text is malformed, or names a place that the worker does not have.
    """

    def __init__(self, text: str = "", *, names: Iterable[str] = ()) -> None:
        known = sorted(names)
        self._armed: dict[str, _Armed] = {}
        for clause in filter(None, text.split(";")):
            armed = _parse(clause)
            if armed.name not in known:
                raise ConfigError(f"{VARIABLE}: there is no failpoint {armed.name}", hint=f"one of {', '.join(known)}")
            self._armed[armed.name] = armed

    @classmethod
    def from_environment(cls, names: Iterable[str]) -> Failpoints:
        """Return what the environment arms, and say so in the log if it arms anything.

        Raises:
            ConfigError: The variable is malformed.
        """
        text = os.environ.get(VARIABLE, "")
        failpoints = cls(text, names=names)
        if text:
            logger().warning("FAILPOINTS ARE ARMED: this worker will fail on purpose", variable=VARIABLE, armed=text)
        return failpoints

    def at(self, name: str) -> Callable[[], None]:
        """Return what a place is to call whenever it is passed."""
        return self._armed.get(name, _nothing)

    def during(self, name: str, call: Callable[[], T]) -> Callable[[], T]:
        """Return a call that passes the place while it is under way: it runs in a thread, the place in the caller's.

        A call that is made again because it failed is the same passage. Where the place is not armed, what is returned
        is the call itself.
        """
        armed = self._armed.get(name)
        if armed is None:
            return call

        is_again = False

        def call_and_pass() -> T:
            nonlocal is_again
            answer = _in_thread(call)
            if not is_again:
                armed()
            is_again = True  # unless it comes back well
            result = answer.result()
            is_again = False
            return result

        return call_and_pass


OFF: Final = Failpoints()
"""No failpoint is armed."""


def _nothing() -> None:
    """Do nothing: the place is not armed."""


def _in_thread(call: Callable[[], T]) -> Future[T]:
    """Begin a call in a thread of its own; the thread ends with the call or the process."""
    began = threading.Event()

    def run() -> T:
        began.set()
        return call()

    answer = call_beside(run, name="failpoint")
    began.wait()
    return answer


def _parse(clause: str) -> _Armed:
    found = _CLAUSE.fullmatch(clause.strip())
    if found is None or found["action"] not in ("kill", "raise", "pause"):
        raise ConfigError(
            f"{VARIABLE}: {clause!r} is no failpoint", hint="write POINT[#PASSAGE]=kill|raise|pause[@FILE]"
        )
    if found["action"] == "pause" and found["file"] is None:
        raise ConfigError(f"{VARIABLE}: {clause!r} would pause for ever", hint="name a file: POINT=pause@FILE")
    file = None if found["file"] is None else Path(found["file"])
    return _Armed(found["name"], int(found["passage"] or 1), cast("Action", found["action"]), file)
