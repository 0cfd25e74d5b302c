"""Whether Kafka is there: asked again and again, because a gateway that gets no requests would not notice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from sealstream.schemas.errors import SealstreamError

PROBE_SECONDS: Final = 5.0
"""Time between two questions."""


class KafkaProbe:
    """Asks from a thread of its own.

    Arguments:
        ask: Returns whether the source topic is there; raises :class:`SealstreamError` if Kafka does not answer.
        topic: The topic's name.
    """

    def __init__(self, ask: Callable[[], bool], topic: str) -> None:
        self._ask = ask
        self._topic = topic
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-probe", daemon=True)
        self.problem = "Kafka was not asked yet"
        """What is wrong, in words; empty if nothing is."""

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. What is being asked now is not waited for: the thread ends with the process."""
        self._end.set()

    def look(self) -> None:
        """Ask once."""
        try:
            self.problem = "" if self._ask() else f"the topic {self._topic} does not exist"
        except SealstreamError as error:
            self.problem = error.message

    def _run(self) -> None:
        self.look()
        while not self._end.wait(PROBE_SECONDS):
            self.look()
