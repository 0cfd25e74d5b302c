"""How far a store was verified by earlier runs, in a file of the caller's: so that a run begins where the last ended.

The file is a memory outside the store: what was seen once and is no longer there, or is different now, shows.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from sealstream.schemas.entry import is_tenant
from sealstream.schemas.errors import ConfigError
from sealstream.sinks.verifier.followed import Followed
from sealstream.sinks.verifier.stored_chain import End

VERSION: Final = 1
FILE_BYTES_MAX: Final = 1024 * 1024 * 1024
_HASH: Final = re.compile("[0-9a-f]{64}")


@dataclass
class AuditState:
    """Where each chain's verified part ends.

    Arguments:
        store: The store's fingerprint.
        ends: The last verified entry of each chain.
        followed: How far the published root log was followed; ``None`` if it was not.
    """

    store: str
    ends: dict[str, End] = field(default_factory=dict[str, End])
    followed: Followed | None = None

    def save(self, path: Path) -> None:
        """Write the state, replacing the file as a whole: a crash leaves the old one or the new one.

        Raises:
            ConfigError: The file cannot be written.
        """
        chains = {tenant: [end.seq, end.hash.hex()] for tenant, end in sorted(self.ends.items())}
        document: dict[str, object] = {"version": VERSION, "store": self.store}
        if self.followed is not None:
            document["root_log"] = self.followed.to_dict()
        text = json.dumps(document | {"chains": chains}, indent=1)
        temporary: str | None = None
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> AuditState | None:
        """Return the state that a file holds, of whatever store; ``None`` if there is no file.

        Raises:
            ConfigError: The file cannot be read, or is no such state.
        """
        try:
            if not path.exists():
                return None
            if path.stat().st_size > FILE_BYTES_MAX:
                raise ConfigError(f"{path} is larger than any state of a verification")
            fields = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} holds no state of a verification") from error
        state = cast("dict[str, object]", fields) if isinstance(fields, dict) else {}
        if state.get("version") != VERSION:
            raise ConfigError(f"{path} holds no state of a verification that this version knows")
        store, log = state.get("store"), state.get("root_log")
        followed = None if log is None else Followed.from_dict(log)
        if not isinstance(store, str) or (log is not None and followed is None):
            raise ConfigError(f"{path} holds no state of a verification")
        return cls(store, _ends(state.get("chains"), path), followed)

    def require(self, store: str, path: Path) -> None:
        """Refuse to go by the state of another store.

        Raises:
            ConfigError: It is one.
        """
        if self.store != store:
            raise ConfigError(
                f"{path} is the state of another store",
                hint="a restored or copied store is verified with a new file, and compared with the old one by hand",
            )


def _ends(chains: object, path: Path) -> dict[str, End]:
    if not isinstance(chains, dict):
        raise ConfigError(f"{path} holds no chains")
    return {_name(name, path): _end(end, path) for name, end in cast("dict[str, object]", chains).items()}


def _name(name: str, path: Path) -> str:
    if not (is_tenant(name) or name.startswith("!partition-")):
        raise ConfigError(f"{path} holds a chain whose name is none")
    return name


def _end(end: object, path: Path) -> End:
    match end:
        case [int(seq), str(digest)] if seq >= 0 and _HASH.fullmatch(digest):
            return End(seq, bytes.fromhex(digest))
        case _:
            raise ConfigError(f"{path} holds a chain whose end cannot be read")
