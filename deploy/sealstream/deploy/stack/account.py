"""The account that PostgreSQL runs under: it refuses to run as root, so root starts it with lesser rights."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from sealstream.deploy.stack.errors import StackError

# Present on nearly every system and owner of nothing. Not "postgres": that may own a real cluster on this machine.
_ACCOUNT_NAME = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of the operating system, by its numbers."""

    uid: int
    gid: int


def database_account() -> Account | None:
    """Give the account to run PostgreSQL under: None for our own, another one if we are root.

    Raises:
        StackError: There is no suitable account.
    """
    try:
        if os.geteuid() != 0:
            pwd.getpwuid(os.geteuid())  # initdb looks itself up, and fails without an entry
            return None
        entry = pwd.getpwnam(_ACCOUNT_NAME)
    except KeyError as error:
        name = "this user" if os.geteuid() != 0 else f"the account {_ACCOUNT_NAME!r}"
        raise StackError(
            f"PostgreSQL cannot run: {name} has no entry in the system's list of accounts",
            hint="run as a user with an entry, or set SEALSTREAM_DATABASE to a PostgreSQL that you have",
        ) from error
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def may_pass(path: Path, account: Account) -> bool:
    """Tell whether the account may reach what lies below this directory: every directory down to it lets it through."""
    resolved = path.resolve()
    return all(_is_open(folder.stat(), account) for folder in (resolved, *resolved.parents))


def _is_open(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
