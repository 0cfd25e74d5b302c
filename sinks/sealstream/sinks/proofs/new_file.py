"""A file that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sealstream.schemas.errors import ConfigError

_MODE: Final = 0o600  # events have personal data; whoever wrote the file decides who else reads it


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Generator[BinaryIO]:
    """Give a file to be written, which is at its path once all of it is on the disk, and not before.

    If what writes it raises, or the process is killed, nothing is at the path that was not there. A killed process
    leaves a file ``.<name>.<random>.part`` beside it, which nobody reads and anybody may remove.

    Arguments:
        path: Where it is to be.
        replace: Whether a file that is there is replaced.

    Raises:
        ConfigError: There is a file, or the directory cannot be written to.
    """
    refuse_existing(path, replace=replace)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if replace:
                part.replace(path)
            else:
                path.hardlink_to(part)  # unlike a rename it fails if somebody was faster
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def refuse_existing(path: Path, *, replace: bool) -> None:
    """Refuse a path where something is.

    Raises:
        ConfigError: There is.
    """
    if not replace and os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> ConfigError:
    return ConfigError(f"{path} is there already", hint="give another name, or --force to replace it")
