"""The directory of a demonstration: its data, its logs, and what is left of them afterwards."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path

from sealstream.deploy.stack import erase
from sealstream.deploy.stack.locations import DIRECTORY_MODE, directory_unusable, make_directory
from sealstream.deploy.supervision import LOG_FOLDER, ROLES, STATE_NAME
from sealstream.schemas.errors import ConfigError


class DemoHome:
    """A directory that did not exist or was empty, so that all in it in the end is the demonstration's.

    Arguments:
        directory: The directory; None for a temporary one.

    Raises:
        ConfigError: There is something in it.
        StackError: It cannot be created.
    """

    def __init__(self, directory: Path | None) -> None:
        self._given_mode = stat.S_IMODE(directory.stat().st_mode) if directory and directory.is_dir() else None
        if directory is None:
            self.path = Path(tempfile.mkdtemp(prefix="sealstream-demo-"))
            self.path.chmod(DIRECTORY_MODE)  # PostgreSQL runs under another account where we are root
            return
        self.path = make_directory(directory)
        try:
            occupied = any(self.path.iterdir())
        except OSError as error:
            raise directory_unusable(self.path, error) from error
        if occupied:
            raise ConfigError(
                f"{self.path} is not empty, and the demo wants to count what is its own",
                hint="name a directory that does not exist yet; `sealstream up --dir` continues what is in one",
            )

    @property
    def logs(self) -> Path:
        """Where the workers' logs are."""
        return self.path / LOG_FOLDER

    def has_worker_logs(self) -> bool:
        """Return whether a worker was started, so that its log may tell something."""
        return any((self.logs / f"{role}.log").exists() for role in ROLES)

    def remove(self, *, keep_logs: bool) -> None:
        """Remove the data, and the directory if it was not there before.

        Arguments:
            keep_logs: Leave the workers' logs, for whoever looks for the reason of a failure.

        Raises:
            StackError: Something cannot be removed.
        """
        try:
            if not keep_logs and self.logs.exists():
                shutil.rmtree(self.logs)
            (self.path / STATE_NAME).unlink(missing_ok=True)
            erase(self.path)
            if self._given_mode is not None:
                self.path.mkdir(exist_ok=True)
                self.path.chmod(self._given_mode)
        except OSError as error:
            raise directory_unusable(self.path, error) from error
