"""Where the local stack keeps its data and what it downloaded."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from sealstream.deploy.stack.errors import StackError

HOME_VARIABLE = "SEALSTREAM_HOME"
# Other accounts may pass through but not list: PostgreSQL runs under an account of its own where we are root.
DIRECTORY_MODE = 0o711


def default_directory() -> Path:
    """Give the directory of the local stack: ``SEALSTREAM_HOME``, else ``sealstream`` in the XDG data directory.

    Raises:
        StackError: The user has no home directory and none of the variables is set.
    """
    override = os.environ.get(HOME_VARIABLE)
    if override:
        return Path(override).expanduser().absolute()
    return _xdg("XDG_DATA_HOME", ".local/share") / "sealstream"


def cache_directory() -> Path:
    """Give the directory of downloads that any stack of this user shares: ``sealstream`` in the XDG cache directory.

    Raises:
        StackError: The user has no home directory and ``XDG_CACHE_HOME`` is not set.
    """
    return _xdg("XDG_CACHE_HOME", ".cache") / "sealstream"


def make_directory(path: Path) -> Path:
    """Create a directory with its parents if it is not there yet, and give its path without symbolic links.

    Raises:
        StackError: It cannot be created, or something else has its name.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        return path.resolve()
    except OSError as error:
        raise directory_unusable(path, error) from error


def directory_unusable(path: Path, error: OSError) -> StackError:
    """Say that a directory or file of the stack cannot be used, and what to do."""
    within = f" ({error.filename})" if error.filename and Path(os.fsdecode(error.filename)) != path else ""
    return StackError(
        f"cannot use {path}: {error.strerror or error}{within}",
        hint=f"name a directory that you may write to with --dir or {HOME_VARIABLE}",
    )


def _xdg(variable: str, below_home: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG specification: a relative path here is to be ignored.
    return Path(value) if value.startswith("/") else _home() / below_home


def _home() -> Path:
    home = os.environ.get("HOME")
    if home:
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError as error:
        raise StackError("this user has no home directory", hint=f"set HOME, or {HOME_VARIABLE}") from error
