"""Files of private keys: written once, for their owner alone, and not read if anybody else may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sealstream.schemas.errors import ConfigError, KeyInvalid
from sealstream.schemas.keys import KEY_BYTES_MAX, pack_key, parse_key
from sealstream.schemas.note_key import SignerKey

_MODE = 0o600
_PUBLIC_MODE = 0o644


def read_key(path: Path) -> SignerKey:
    """Return the private key in a file.

    The rule is that of PostgreSQL: nobody but the owner may have access, or, where root owns the file (a mounted
    secret), nobody but root and the file's group.

    Arguments:
        path: The file.

    Raises:
        ConfigError: The file cannot be read, or others have access to it.
        KeyInvalid: It holds no private key.
    """
    try:
        # Not blocking: a FIFO in the file's place must not keep a worker waiting for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            check_access(path, os.fstat(file.fileno()))
            data = file.read(KEY_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"private key {path} cannot be read: {error.strerror}") from error
    try:
        return parse_key(data)
    except KeyInvalid as error:
        raise KeyInvalid(f"{path}: {error.message}", hint=error.hint) from error


def write_key(path: Path, key: SignerKey) -> None:
    """Write a private key into a new file that its owner alone may read.

    Raises:
        ConfigError: The file exists, or cannot be written.
    """
    write_new(path, pack_key(key), mode=_MODE)


def write_secret(path: Path, data: bytes) -> None:
    """Write a secret that is no key into a new file that its owner alone may read.

    Raises:
        ConfigError: The file exists, or cannot be written.
    """
    write_new(path, data, mode=_MODE)


def write_new(path: Path, data: bytes, *, mode: int = _PUBLIC_MODE) -> None:
    """Write a new file so that it is there after a power cut, and never overwrite one.

    Arguments:
        path: The file.
        data: Its content.
        mode: Its access rights.

    Raises:
        ConfigError: The file exists, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists, and is not overwritten", hint="name another file") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except OSError as error:
        # A process that dies before this leaves a part of the file: reading refuses it, and a person removes it.
        path.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def check_access(path: Path, status: os.stat_result) -> None:
    """Refuse a private key's file that others than its owner have access to.

    Arguments:
        path: The file.
        status: What the system says of it.

    Raises:
        ConfigError: It is no file, belongs to somebody else, or others have access to it.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"private key {path} is no file")
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"private key {path} belongs to another user", hint="give it to the user that runs this")
    forbidden = stat.S_IRWXO | (stat.S_IWGRP | stat.S_IXGRP if status.st_uid == 0 else stat.S_IRWXG)
    if status.st_mode & forbidden:
        raise ConfigError(
            f"others have access to the private key {path}: its mode is {stat.S_IMODE(status.st_mode):04o}",
            hint=f"chmod 600 {path}; if somebody may have read it, rotate the key",
        )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
