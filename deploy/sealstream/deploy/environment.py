"""The environment of an instance: for the workers that we start, and as a file for the person's own shell."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from sealstream.deploy.stack.state import write_private
from sealstream.worker.settings import NOT_SETTINGS, PREFIX

ENVIRONMENT_NAME: Final = "environment"
_FILE_SUFFIX: Final = "_FILE"
# A worker that somebody starts besides ours must not fence it.
_WORKER_ID_VARIABLE: Final = f"{PREFIX}WORKER_ID"


def instance_environment(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that this process was given, with some of them replaced.

    Arguments:
        overrides: Settings by their names in lower case.
    """
    replaced = {f"{PREFIX}{name.upper()}": value for name, value in overrides.items()}
    hidden = set(replaced) | {f"{name}{_FILE_SUFFIX}" for name in replaced} | NOT_SETTINGS
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and name not in hidden}
    return given | replaced


def as_writer(database_url: str) -> str:
    """Return the URL for a session that begins with the rights of ``sealstream_writer`` and no more.

    In production the sink logs in as a role that is granted no more than that; here there is only a superuser.
    """
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query["options"] = f"{query.get('options', '')} -c role=sealstream_writer".strip()
    return parts._replace(query=urlencode(query, quote_via=quote)).geturl()


def write_environment(directory: Path, environment: Mapping[str, str]) -> Path:
    """Write the settings as a file that a shell can read (``. FILE``), for this user alone: it holds a password.

    Raises:
        StackError: It cannot be written.
    """
    path = directory / ENVIRONMENT_NAME
    shown = {name: value for name, value in environment.items() if name != _WORKER_ID_VARIABLE}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(shown.items())]
    write_private(path, "".join(lines))
    return path
