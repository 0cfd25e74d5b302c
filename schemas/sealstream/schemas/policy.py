"""Policies (C2SP tlog-policy): which logs are known, which witnesses, and how many of them make a quorum.

A policy is its reader's own: it never comes out of what it judges. Who is believed by it is
:mod:`sealstream.schemas.trust`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from sealstream.schemas.errors import KeyInvalid, PolicyInvalid
from sealstream.schemas.note_key import COSIGNATURE_TYPES, KeyType, VerifierKey

NO_QUORUM: Final = "none"
"""The quorum of a policy that asks for no cosignature."""

POLICY_BYTES_MAX: Final = 1_000_000
LOGS_MAX: Final = 256
NAMES_MAX: Final = 512
"""The most witnesses and groups together."""

LOG_TYPES: Final = frozenset({KeyType.ED25519, KeyType.COSIGNATURE_ML_DSA_44})
"""The types of keys that sign as a log; a timestamped Ed25519 cosignature is a witness's."""

_FORBIDDEN: Final = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_BLANKS: Final = re.compile(rb"[ \t]+")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Log:
    """A log that the policy knows.

    Arguments:
        key: Its key; the key's name is the log's origin.
        url: Where it is, for those who speak to it; empty if nobody does.
    """

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness that the policy knows.

    Arguments:
        name: How the policy calls it.
        key: Its key.
        url: Where it takes checkpoints; empty if nobody sends it any.
    """

    name: str
    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups of which so many stand for all.

    Arguments:
        name: How the policy calls it.
        threshold: How many members must have witnessed a checkpoint.
        members: Names of witnesses, and of groups defined before this one.
    """

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom its reader believes.

    Arguments:
        logs: The known logs.
        witnesses: The known witnesses.
        groups: The groups, each behind those that it has as members.
        quorum: The name of the witness or group that must have witnessed a checkpoint, or ``none``.

    Raises:
        PolicyInvalid: A name or a key is there twice, a name is not defined, or a number is out of range.
    """

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def __post_init__(self) -> None:
        builder = _Builder()
        for log in self.logs:
            builder.log(log)
        for witness in self.witnesses:
            builder.witness(witness)
        for group in self.groups:
            builder.group(group)
        builder.set_quorum(self.quorum)

    def satisfied(self, witnesses: Collection[str]) -> bool:
        """Return whether the witnesses of these names are a quorum.

        Arguments:
            witnesses: The policy's names of those that have cosigned; others do not count.
        """
        if self.quorum == NO_QUORUM:
            return True
        seen = {witness.name for witness in self.witnesses} & set(witnesses)
        for group in self.groups:  # members stand before their group, so one pass is enough
            if sum(member in seen for member in group.members) >= group.threshold:
                seen.add(group.name)
        return self.quorum in seen

    def pack(self) -> bytes:
        """Return the policy as a file's bytes, the quorum in the last line.

        Raises:
            PolicyInvalid: It is too large.
        """
        lines = [_joined("log", str(log.key), log.url) for log in self.logs]
        lines.extend(_joined("witness", one.name, str(one.key), one.url) for one in self.witnesses)
        lines.extend(_joined("group", one.name, str(one.threshold), *one.members) for one in self.groups)
        lines.append(_joined("quorum", self.quorum))
        data = "".join(lines).encode(errors="surrogateescape")
        _check_bytes(data)
        return data

    @classmethod
    def parse(cls, data: bytes) -> Policy:
        """Return the policy that a file's bytes are.

        Names and URLs are bytes to C2SP; what is no UTF-8 in them is kept as Python's surrogates.

        Raises:
            PolicyInvalid: A line is malformed, or the policy contradicts itself; the message names the line.
        """
        _check_bytes(data)
        if not data.endswith(b"\n"):
            raise PolicyInvalid("policy does not end with a newline", hint="it is cut: get the whole file")
        builder = _Builder()
        for number, line in enumerate(data[:-1].split(b"\n"), 1):
            words = [word.decode(errors="surrogateescape") for word in _BLANKS.split(line.strip(b" \t"))]
            if not words[0] or words[0].startswith("#"):
                continue
            try:
                _read_line(builder, words)
            except PolicyInvalid as error:
                raise PolicyInvalid(f"policy line {number}: {error.message}", hint=error.hint) from error
        return builder.policy()


@dataclass(slots=True)
class _Builder:
    """Takes definitions in their order, and refuses what C2SP refuses."""

    logs: list[Log] = field(default_factory=list[Log])
    witnesses: list[Witness] = field(default_factory=list[Witness])
    groups: list[Group] = field(default_factory=list[Group])
    quorum: str | None = None
    names: set[str] = field(default_factory=set[str])
    members: set[str] = field(default_factory=set[str])

    def log(self, log: Log) -> None:
        if len(self.logs) == LOGS_MAX:
            raise PolicyInvalid(f"more than {LOGS_MAX} logs")
        if log.key.type not in LOG_TYPES:
            raise PolicyInvalid(f"key of log {log.key.name} is one of a cosigner, not of a log")
        if any(log.key.public_key == other.key.public_key for other in self.logs):
            raise PolicyInvalid(f"the key of log {log.key.name} is there twice")
        _check_words(log.url or "-")
        self.logs.append(log)

    def witness(self, witness: Witness) -> None:
        if witness.key.type not in COSIGNATURE_TYPES:
            raise PolicyInvalid(
                f"key of witness {witness.name!r} has type {witness.key.type:#04x}, which makes no cosignatures",
                hint="a witness's key has type 0x04 or 0x06: ask the witness for it",
            )
        if any(witness.key.public_key == other.key.public_key for other in self.witnesses):
            raise PolicyInvalid(f"the key of witness {witness.name!r} is there twice: it would count twice")
        _check_words(witness.url or "-")
        self._define(witness.name)
        self.witnesses.append(witness)

    def group(self, group: Group) -> None:
        if not 1 <= group.threshold <= len(group.members):
            raise PolicyInvalid(f"group {group.name!r} asks for {group.threshold} of {len(group.members)} members")
        for member in group.members:
            if member not in self.names:
                raise PolicyInvalid(f"group {group.name!r} has the member {member!r}, which no line before defines")
            if member in self.members:
                raise PolicyInvalid(f"{member!r} is a member twice: it would count twice")
            self.members.add(member)
        self._define(group.name)
        self.groups.append(group)

    def set_quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise PolicyInvalid("a second quorum")
        if name != NO_QUORUM and name not in self.names:
            raise PolicyInvalid(f"the quorum is {name!r}, which no line before defines")
        self.quorum = name

    def policy(self) -> Policy:
        if self.quorum is None:
            raise PolicyInvalid("policy has no quorum", hint="`quorum none` is the word for asking for no cosignature")
        return Policy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), self.quorum)

    def _define(self, name: str) -> None:
        _check_words(name)
        if name == NO_QUORUM or name in self.names:
            raise PolicyInvalid(f"the name {name!r} is taken")
        if len(self.names) == NAMES_MAX:
            raise PolicyInvalid(f"more than {NAMES_MAX} witnesses and groups")
        self.names.add(name)


def _read_line(builder: _Builder, words: list[str]) -> None:
    keyword, *rest = words
    if keyword == "log" and 1 <= len(rest) <= 2:
        builder.log(Log(_key(rest[0]), *rest[1:]))
    elif keyword == "witness" and 2 <= len(rest) <= 3:
        builder.witness(Witness(rest[0], _key(rest[1]), *rest[2:]))
    elif keyword == "group" and len(rest) >= 3:
        builder.group(Group(rest[0], _threshold(rest[1], len(rest) - 2), tuple(rest[2:])))
    elif keyword == "quorum" and len(rest) == 1:
        builder.set_quorum(rest[0])
    else:
        raise PolicyInvalid(
            f"{keyword[:20]!r} with {len(rest)} words is no definition",
            hint="log VKEY [URL], witness NAME VKEY [URL], group NAME any|all|K NAME..., quorum NAME",
        )


def _threshold(word: str, members: int) -> int:
    if word in ("any", "all"):
        return 1 if word == "any" else members
    if _NUMBER.fullmatch(word) is None:
        raise PolicyInvalid(f"{word[:20]!r} is neither any, all nor a number")
    return int(word)


def _key(word: str) -> VerifierKey:
    try:
        return VerifierKey.parse(word)
    except KeyInvalid as error:
        raise PolicyInvalid(error.message, hint=error.hint) from error


def _check_words(word: str) -> None:
    """Refuse what would be two words of a line, none, or a comment's beginning."""
    data = word.encode(errors="surrogateescape")
    if not data or b" " in data or b"\t" in data or b"\n" in data or _FORBIDDEN.search(data):
        raise PolicyInvalid(f"{word[:80]!r} is empty, or has a blank or a control character")


def _check_bytes(data: bytes) -> None:
    if len(data) > POLICY_BYTES_MAX:
        raise PolicyInvalid(f"policy has {len(data)} bytes; at most {POLICY_BYTES_MAX} are read")
    if (found := _FORBIDDEN.search(data)) is not None:
        raise PolicyInvalid(f"policy has the byte {found[0][0]:#04x} at {found.start()}", hint="only text is allowed")


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word) + "\n"
