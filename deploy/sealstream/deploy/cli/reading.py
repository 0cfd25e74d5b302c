"""What a reader of evidence brings along in files: his policy, the records of rotated keys, and the time."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.schemas.trust import Reader
    from sealstream.worker.settings import Settings

FILE_BYTES_MAX: Final = 1_000_000


def read_file(path: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Return a file's bytes.

    Raises:
        ConfigError: It cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = (error.strerror if isinstance(error, OSError) else "") or "it has no valid name"
        raise ConfigError(f"{path} cannot be read: {reason}") from error
    if len(data) > bytes_max:
        raise ConfigError(f"{path} has more than {bytes_max} bytes", hint="is it the right file?")
    return data


def reader_of(
    policy: Path | None, rotations: Path | None, at: datetime | None, *, settings: Settings | None = None
) -> Reader:
    """Return who judges: by the files that he names, or else by settings.

    Arguments:
        policy: The file of his policy.
        rotations: The file of the records of rotated keys that he has.
        at: The time to judge as of; ``None`` for now.
        settings: What is asked where a file is not named; ``None`` for nothing.

    Raises:
        ConfigError: A file cannot be read, or it is not said whom to believe.
        PolicyInvalid: The policy does not parse.
        RotationInvalid: The records do not parse.
        HistoryForked: The records contradict each other.
    """
    from sealstream.schemas.key_history import ROTATIONS_BYTES_MAX, KeyHistory, parse_rotations
    from sealstream.schemas.policy import POLICY_BYTES_MAX, Policy
    from sealstream.schemas.trust import Reader

    if policy is not None:
        believed = Policy.parse(read_file(policy, POLICY_BYTES_MAX))
    elif settings is not None and settings.policy:
        from sealstream.worker.evidence_settings import policy_of

        believed = policy_of(settings)
    else:
        raise ConfigError(
            "it is not said whom to believe", hint="give --policy: what is checked never says that itself"
        )
    if rotations is not None:
        history = KeyHistory(parse_rotations(read_file(rotations, ROTATIONS_BYTES_MAX)))
    elif settings is not None:
        from sealstream.worker.evidence_settings import key_history_of

        history = key_history_of(settings)
    else:  # nothing of a worker is loaded: a proof is judged where there is none
        history = KeyHistory()
    return Reader(believed, int(time.time() if at is None else at.timestamp()), history)
