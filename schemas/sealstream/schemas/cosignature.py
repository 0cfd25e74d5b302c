"""The messages that timestamped cosignatures sign (C2SP tlog-cosignature).

Two kinds: Ed25519 (type 0x04) signs the whole text of the checkpoint behind two lines of its own; ML-DSA-44 (type 0x06)
signs a binary structure with the cosigner's name, the time, the origin, the size and the root, and no extension lines.
Either signature is a time and the algorithm's signature behind it.
"""

from __future__ import annotations

import struct
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import NoteInvalid
from sealstream.schemas.notation import NUMBER_MAX

NAME_BYTES_MAX: Final = 255
"""The longest name of a key, and the longest origin that ML-DSA-44 can cosign: their length is one byte."""

_ED25519_HEADER: Final = b"cosignature/v1\n"
_ML_DSA_LABEL: Final = b"subtree/v1\n\x00"
_TIME: Final = struct.Struct(">Q")
_RANGE: Final = struct.Struct(">QQ32s")  # start, end, hash


def ed25519_message(text: bytes, time_seconds: int) -> bytes:
    """Return what an Ed25519 cosignature signs.

    Arguments:
        text: The text of the checkpoint, extension lines included.
        time_seconds: When the cosignature is made, in seconds since the Unix epoch.

    Raises:
        NoteInvalid: The time is out of range.
        CheckpointInvalid: The text is no checkpoint.
    """
    Checkpoint.parse(text)
    return b"%btime %d\n%b" % (_ED25519_HEADER, _checked(time_seconds), text)


def ml_dsa_message(text: bytes, time_seconds: int, cosigner: str) -> bytes:
    """Return what an ML-DSA-44 cosignature signs.

    Arguments:
        text: The text of the checkpoint. Its extension lines do not enter the message.
        time_seconds: When the cosignature is made, in seconds since the Unix epoch; 0 says nothing about the time.
        cosigner: The name of the cosigner's key.

    Raises:
        NoteInvalid: The time is out of range, or a name has more than 255 bytes.
        CheckpointInvalid: The text is no checkpoint.
    """
    checkpoint = Checkpoint.parse(text)
    return b"".join(
        (
            _ML_DSA_LABEL,
            _short(cosigner),
            _TIME.pack(_checked(time_seconds)),
            _short(checkpoint.origin),
            _RANGE.pack(0, checkpoint.size, checkpoint.root),
        )
    )


def pack_timestamped(time_seconds: int, signature: bytes) -> bytes:
    """Return the signature as it stands in a note: the time in 8 bytes, and the algorithm's signature.

    Raises:
        NoteInvalid: The time is out of range.
    """
    return _TIME.pack(_checked(time_seconds)) + signature


def parse_timestamped(signature: bytes) -> tuple[int, bytes]:
    """Return the time in seconds and the algorithm's signature, the inverse of :func:`pack_timestamped`.

    Raises:
        NoteInvalid: The signature is cut short, or its time is out of range.
    """
    if len(signature) < _TIME.size:
        raise NoteInvalid(f"cosignature has {len(signature)} bytes, too few for its time")
    (time_seconds,) = _TIME.unpack_from(signature)
    return _checked(time_seconds), signature[_TIME.size :]


def _checked(time_seconds: int) -> int:
    if not 0 <= time_seconds <= NUMBER_MAX:
        raise NoteInvalid(f"cosignature has the time {time_seconds}, outside 0 to {NUMBER_MAX}")
    return time_seconds


def _short(name: str) -> bytes:
    data = name.encode()
    if not 0 < len(data) <= NAME_BYTES_MAX:
        raise NoteInvalid(f"name has {len(data)} bytes, outside 1 to {NAME_BYTES_MAX}", hint="cosign it with Ed25519")
    return bytes((len(data),)) + data
