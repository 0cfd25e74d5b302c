"""The file that keeps a receipt of every event, a line each: ``sealstream receipts check`` compares it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sealstream.producers.receipt import Delivery
from sealstream.schemas.errors import ConfigError

_MODE: Final = 0o600


class ReceiptsFile:
    """Appends to a file; several processes may share it, because whole lines are appended in one call.

    Arguments:
        path: The file; made if it is not there.

    Raises:
        ConfigError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise ConfigError(f"receipts {path} cannot be written: {error.strerror}") from error

    def add(self, delivery: Delivery) -> None:
        """Take a receipt whose event has its outcome."""
        self._lines.append(delivery.as_json())

    def write(self) -> None:
        """Append what was taken. A process that is killed before loses these lines, and not the events.

        Raises:
            OSError: The file does not take them; what was not written is tried again with the next ones.
        """
        count = len(self._lines)  # another thread may add more meanwhile
        if not count:
            return
        data = "".join([f"{line}\n" for line in self._lines[:count]]).encode()
        written = os.write(self._file, data)
        if written < len(data):  # the disk is full: what is there of a line is completed next time
            self._lines[:count] = [data[written:].decode().rstrip("\n")]
            raise OSError(f"only {written} of {len(data)} bytes of receipts were written to {self._path}")
        del self._lines[:count]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
