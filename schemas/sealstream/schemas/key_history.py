"""How one key follows another: rotation records, and the time in which each key was in use.

A record is a note of ours, signed by the key that goes and by the one that comes. Records are public, but it is the
reader who says which ones he takes, never the file that he checks: whoever stole a key that is no longer in use could
make another record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from sealstream.schemas.errors import HistoryForked, KeyInvalid, NoteInvalid, RotationInvalid
from sealstream.schemas.notation import NUMBER_MAX
from sealstream.schemas.note import Note, Signature
from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey

ROTATIONS_MAX: Final = 1_000
ROTATIONS_BYTES_MAX: Final = 4_000_000

_HEADER: Final = b"sealstream/rotation1\n"
_TEXT: Final = re.compile(
    _HEADER + rb"old ([^\n]+)\nnew ([^\n]+)\nold-not-after (0|[1-9][0-9]{0,18})\nnew-not-before (0|[1-9][0-9]{0,18})\n"
)
_START: Final = re.compile(rb"^" + _HEADER, re.MULTILINE)
_Material: TypeAlias = tuple[KeyType, bytes]


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key is followed by another one of the same name.

    Arguments:
        old: The key that goes.
        new: The key that comes: of the same type, or of ML-DSA-44.
        old_not_after_seconds: The last second in which the old key is in use, since the Unix epoch. Where it was
            stolen, a time before the theft.
        new_not_before_seconds: The first second in which the new key is in use. Both can be in use for a time.

    Raises:
        RotationInvalid: The keys do not go together, or a time is out of range.
    """

    old: VerifierKey
    new: VerifierKey
    old_not_after_seconds: int
    new_not_before_seconds: int

    def __post_init__(self) -> None:
        if self.old.name != self.new.name:
            raise RotationInvalid(f"rotation from {self.old.name} to {self.new.name}: a name is for ever")
        if self.old.public_key == self.new.public_key:
            raise RotationInvalid(f"rotation of {self.old.name} brings no new key")
        if self.new.type not in (self.old.type, KeyType.COSIGNATURE_ML_DSA_44):
            raise RotationInvalid(f"rotation of {self.old.name} goes from type {self.old.type} to {self.new.type}")
        if not all(0 <= time <= NUMBER_MAX for time in (self.old_not_after_seconds, self.new_not_before_seconds)):
            raise RotationInvalid(f"rotation of {self.old.name} has a time outside 0 to {NUMBER_MAX}")

    def text(self) -> bytes:
        """Return the text that both keys sign."""
        return b"%bold %b\nnew %b\nold-not-after %d\nnew-not-before %d\n" % (
            _HEADER,
            str(self.old).encode(),
            str(self.new).encode(),
            self.old_not_after_seconds,
            self.new_not_before_seconds,
        )

    @classmethod
    def parse(cls, data: bytes) -> Rotation:
        """Return the rotation that a record says, if both keys have signed it.

        Raises:
            RotationInvalid: The bytes are no record in its one form, or a signature is missing or wrong.
            ConfigError: A signature is by ML-DSA-44, and the installed ``cryptography`` has none.
        """
        try:
            note = Note.parse(data)
            match = _TEXT.fullmatch(note.text)
            if match is None:
                raise RotationInvalid("rotation record has another text than that of its form")
            old, new = (VerifierKey.parse(vkey.decode()) for vkey in match.groups()[:2])
        except (NoteInvalid, KeyInvalid) as error:
            raise RotationInvalid(f"rotation record: {error.message}", hint=error.hint) from error
        rotation = cls(old, new, int(match[3]), int(match[4]))
        if len(note.signatures) != 2:
            raise RotationInvalid(f"rotation record of {old.name} has {len(note.signatures)} signatures instead of two")
        for key, signature in zip((old, new), note.signatures, strict=True):
            if (signature.name, signature.key_id) != (key.name, key.statement_id):
                raise RotationInvalid(
                    f"rotation record of {old.name} is not signed by the old key and then the new one"
                )
            if not key.verify_statement(note.text, signature.signature):
                raise RotationInvalid(
                    f"rotation record of {old.name} has a signature that does not verify",
                    hint="it was changed or forged: get it from the key's owner again",
                )
        return rotation


def sign_rotation(
    old: SignerKey, new: SignerKey, *, old_not_after_seconds: int, new_not_before_seconds: int
) -> tuple[Rotation, bytes]:
    """Return a rotation and its record, signed by both keys.

    Arguments:
        old: The key that goes.
        new: The key that comes.
        old_not_after_seconds: The last second in which the old key is in use, since the Unix epoch.
        new_not_before_seconds: The first second in which the new key is in use.

    Raises:
        RotationInvalid: The keys do not go together, or a time is out of range.
    """
    rotation = Rotation(old.verifier, new.verifier, old_not_after_seconds, new_not_before_seconds)
    text = rotation.text()
    signatures = tuple(
        Signature(key.verifier.name, key.verifier.statement_id, key.sign_statement(text)) for key in (old, new)
    )
    return rotation, Note(text, signatures).pack()


def parse_rotations(data: bytes) -> tuple[Rotation, ...]:
    """Return the rotations of a file that holds records one behind the other.

    Raises:
        RotationInvalid: The file is too large, or something in it is no record.
        ConfigError: A signature is by ML-DSA-44, and the installed ``cryptography`` has none.
    """
    if len(data) > ROTATIONS_BYTES_MAX:
        raise RotationInvalid(f"file of rotations has {len(data)} bytes; at most {ROTATIONS_BYTES_MAX} are read")
    starts = [match.start() for match in _START.finditer(data)]
    if len(starts) > ROTATIONS_MAX:
        raise RotationInvalid(f"file of rotations has {len(starts)} records; at most {ROTATIONS_MAX} are read")
    if starts[:1] != [0]:
        raise RotationInvalid("file of rotations does not begin with a record")
    return tuple(Rotation.parse(data[begin:end]) for begin, end in zip(starts, [*starts[1:], len(data)], strict=True))


@dataclass(frozen=True, slots=True)
class DatedKey:
    """A key and the time in which it was in use, both ends included.

    Arguments:
        key: The key.
        not_before_seconds: Its first second, since the Unix epoch; 0 if no record says.
        not_after_seconds: Its last second; ``None`` while it is in use.
    """

    key: VerifierKey
    not_before_seconds: int = 0
    not_after_seconds: int | None = None

    def in_use(self, time_seconds: int) -> bool:
        """Return whether the key was in use at a time."""
        return self.not_before_seconds <= time_seconds and not self.ended_before(time_seconds)

    def ended_before(self, time_seconds: int) -> bool:
        """Return whether the key was no longer in use at a time."""
        return self.not_after_seconds is not None and self.not_after_seconds < time_seconds


class KeyHistory:
    """Which key followed which, by the records that its reader takes.

    Arguments:
        rotations: The records, in any order, of any number of names.

    Raises:
        HistoryForked: Two records say different things of one key.
    """

    def __init__(self, rotations: Iterable[Rotation] = ()) -> None:
        self._following: dict[_Material, Rotation] = {}
        self._preceding: dict[_Material, Rotation] = {}
        for rotation in rotations:
            for known, key in ((self._following, rotation.old), (self._preceding, rotation.new)):
                if known.setdefault(_material(key), rotation) != rotation:
                    raise HistoryForked(
                        f"two rotation records contradict each other on the key {key.name}+{key.key_id.hex()}",
                        hint="one of them is a thief's: ask the key's owner which, and take the other out",
                    )

    def lineage(self, key: VerifierKey) -> tuple[DatedKey, ...]:
        """Return the keys that one key followed and was followed by, itself included, the oldest first.

        All have the name of the given one. The records of an instance's key hold for its tenants' logs, too: their
        names are the instance's, a slash and something behind it, and the key is the same.

        Raises:
            HistoryForked: The records lead back to a key that was given up.
        """
        oldest, seen = key, {_material(key)}
        while (rotation := self._record(self._preceding, oldest, key.name)) is not None:
            oldest = _once(rotation.old, seen).renamed(key.name)
        keys, seen = [DatedKey(oldest)], {_material(oldest)}
        while (rotation := self._record(self._following, keys[-1].key, key.name)) is not None:
            keys[-1] = replace(keys[-1], not_after_seconds=rotation.old_not_after_seconds)
            new = _once(rotation.new, seen).renamed(key.name)
            keys.append(DatedKey(new, not_before_seconds=rotation.new_not_before_seconds))
        return tuple(keys)

    @staticmethod
    def _record(known: dict[_Material, Rotation], key: VerifierKey, name: str) -> Rotation | None:
        rotation = known.get(_material(key))
        if rotation is not None and (name == rotation.old.name or name.startswith(f"{rotation.old.name}/")):
            return rotation
        return None


def _material(key: VerifierKey) -> _Material:
    return (key.type, key.public_key)


def _once(key: VerifierKey, seen: set[_Material]) -> VerifierKey:
    if _material(key) in seen:
        raise HistoryForked(f"the rotation records of {key.name} come back to a key that was given up")
    seen.add(_material(key))
    return key
