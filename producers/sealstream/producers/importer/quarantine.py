"""The quarantine file: rows of which no valid event can be made, as they are, each with its reason. NDJSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from sealstream.producers.importer.rows import SourceRow
from sealstream.schemas.errors import ConfigError, EventInvalid


def bad_row(row: SourceRow, columns: Sequence[str], error: EventInvalid) -> dict[str, Any]:
    """Return a bad row as plain values, for JSON."""
    texts = dict(zip(columns, row.texts, strict=True)) if len(row.texts) == len(columns) else None
    return {"key": row.key, "field": error.field, "reason": error.message, "hint": error.hint, "row": texts}


class Quarantine:
    """The file of a job. It holds what its rows hold, so it is readable by its owner alone.

    Arguments:
        path: Where it is; made with the first row.
        size_bytes: How much of it the job's last step has; what is behind it is cut.

    Raises:
        ConfigError: It cannot be written, or is shorter.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._file: BinaryIO | None = None
        try:
            found = path.stat().st_size if path.exists() else 0
            if found < size_bytes:
                raise ConfigError(f"{path} has {found} bytes, and had {size_bytes}", hint="put it back")
            if found > size_bytes:
                os.truncate(path, size_bytes)
        except OSError as error:
            raise ConfigError(f"{path} cannot be used: {error.strerror}") from error

    def add(self, bad: dict[str, Any]) -> None:
        """Add a row."""
        if self._file is None:
            self._file = os.fdopen(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab")
        # Surrogates that stand for bytes which are no UTF-8 are written escaped, so that the line is valid.
        line = json.dumps(bad, ensure_ascii=True).encode() + b"\n"
        self.size_bytes += self._file.write(line)

    def sync(self) -> None:
        """Have on disk what was added. If we die before the job's next step, it is cut again, and added again."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()
