"""What a directory of the stack says about the stack that runs in it: a lock, a state file, the ports."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.locations import directory_unusable
from sealstream.deploy.stack.processes import Identity

_LOCK_NAME = "lock"
_STATE_NAME = "stack.json"
_PORTS_NAME = "ports.json"
_STATE_FORMAT = 1
_PRIVATE_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """Which processes make up the stack of a directory.

    Arguments:
        owner: The process that started it.
        servers: Its servers by name (``kafka``, ``database``, ``registry``).
        addresses: Their addresses by name; the database's holds its password.
    """

    owner: Identity
    servers: dict[str, Identity]
    addresses: dict[str, str]


class DirectoryLock:
    """Keeps a second stack out of a directory; the system frees it when its holder ends, however it ends.

    Arguments:
        directory: The directory of the stack, which exists.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _LOCK_NAME
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StackError: Another process or stack holds it, or the directory is read-only.
        """
        try:
            file = open(self._path, "a+", encoding="ascii", opener=_private)  # noqa: SIM115 - kept open
        except OSError as error:
            raise directory_unusable(self._path.parent, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            file.close()
            raise StackError(
                f"{self._path.parent} is in use by another stack (process {holder})",
                hint="end it with `sealstream down`, or use another directory with --dir",
            ) from error
        except OSError as error:
            file.close()
            raise directory_unusable(self._path.parent, error) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give the lock back; does nothing if it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None


def write_state(directory: Path, state: StackState) -> None:
    """Note the running processes, readable by this user alone since the URL holds a password.

    Raises:
        StackError: The directory cannot be written.
    """
    _write(
        directory / _STATE_NAME,
        {
            "format": _STATE_FORMAT,
            "owner": _identity_to_json(state.owner),
            "servers": {name: _identity_to_json(identity) for name, identity in state.servers.items()},
            "addresses": state.addresses,
        },
    )


def read_state(directory: Path) -> StackState | None:
    """Read which stack runs, or was left running, in a directory; None if none was noted.

    Raises:
        StackError: The state file is not one of ours, or cannot be read.
    """
    path = directory / _STATE_NAME
    document = _read(path)
    if document is None:
        return None
    try:
        if document["format"] != _STATE_FORMAT:
            raise _not_ours(path)
        return StackState(
            owner=_identity_from_json(document["owner"]),
            servers={str(name): _identity_from_json(value) for name, value in document["servers"].items()},
            addresses={str(name): str(address) for name, address in document["addresses"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_ours(path) from error


def remove_state(directory: Path) -> None:
    """Forget the stack of a directory: it has ended."""
    (directory / _STATE_NAME).unlink(missing_ok=True)


def read_ports(directory: Path) -> dict[str, int]:
    """Read the ports that the stack of this directory used last, by name; empty if it never ran.

    Raises:
        StackError: The file is not one of ours, or cannot be read.
    """
    path = directory / _PORTS_NAME
    document = _read(path)
    try:
        return {str(name): int(port) for name, port in (document or {}).items()}
    except (TypeError, ValueError) as error:
        raise _not_ours(path) from error


def write_ports(directory: Path, ports: dict[str, int]) -> None:
    """Note the ports for the next start.

    Raises:
        StackError: The directory cannot be written.
    """
    _write(directory / _PORTS_NAME, dict(ports))


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read, whole or not at all.

    Raises:
        StackError: It cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        with open(new, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
        # If we die here, the old file is still whole and the new one is overwritten by the next write.
        new.replace(path)
    except OSError as error:
        raise directory_unusable(path, error) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE_MODE)


def _write(path: Path, document: dict[str, Any]) -> None:
    write_private(path, json.dumps(document, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise directory_unusable(path, error) from error
    except ValueError as error:
        raise _not_ours(path) from error
    if not isinstance(document, dict):
        raise _not_ours(path)
    return cast("dict[str, Any]", document)


def _not_ours(path: Path) -> StackError:
    return StackError(
        f"{path} is damaged or of another version", hint="end what still runs by hand, and remove the file"
    )


def _identity_to_json(identity: Identity) -> dict[str, float]:
    return {"pid": identity.pid, "started_seconds": identity.started_seconds}


def _identity_from_json(value: dict[str, Any]) -> Identity:
    return Identity(pid=int(value["pid"]), started_seconds=float(value["started_seconds"]))
