"""The text of a checkpoint: what a log says of its tree when it signs (C2SP tlog-checkpoint).

The signatures around it are :mod:`sealstream.schemas.note`, and who is believed is :mod:`sealstream.schemas.trust`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.entry import is_instance
from sealstream.schemas.errors import CheckpointInvalid
from sealstream.schemas.merkle import HASH_BYTES
from sealstream.schemas.notation import NUMBER_MAX, decode_decimal, decode_hash, encode_base64
from sealstream.schemas.tenant_name import is_chain

_CONTROLS: Final = re.compile(rb"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of its tree.

    Arguments:
        origin: The log's name, for ever the same; :func:`root_origin` or :func:`chain_origin` for ours.
        size: Number of leaves.
        root: Root of the Merkle tree over them, 32 bytes.
        extensions: Further lines, without their newlines. We write none: a cosignature by ML-DSA does not cover them.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """Return the text that is signed.

        Raises:
            CheckpointInvalid: A field is out of range, or a line of it would be two.
        """
        if not 0 <= self.size <= NUMBER_MAX:
            raise CheckpointInvalid(f"checkpoint has size {self.size}, outside 0 to {NUMBER_MAX}")
        if len(self.root) != HASH_BYTES:
            raise CheckpointInvalid(f"checkpoint has a root of {len(self.root)} bytes instead of {HASH_BYTES}")
        lines = [_line(self.origin), b"%d" % self.size, encode_base64(self.root)]
        lines.extend(_line(extension) for extension in self.extensions)
        return b"".join(line + b"\n" for line in lines)

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        """Return the checkpoint that a note's text is, the inverse of :meth:`pack`.

        Raises:
            CheckpointInvalid: The text is no checkpoint, or not in its one form.
        """
        if not text.endswith(b"\n"):
            raise CheckpointInvalid("checkpoint does not end with a newline", hint="the text is cut: fetch it again")
        lines = text[:-1].split(b"\n")
        if len(lines) < 3:
            raise CheckpointInvalid(f"checkpoint has {len(lines)} lines instead of origin, size and root")
        for number, line in enumerate(lines, 1):
            if not line or _CONTROLS.search(line):
                raise CheckpointInvalid(f"checkpoint line {number} is empty or has a control character")
        try:
            origin, *extensions = (line.decode() for line in (lines[0], *lines[3:]))
        except UnicodeDecodeError as error:
            raise CheckpointInvalid("checkpoint is no UTF-8") from error
        try:
            size = decode_decimal(lines[1])
        except ValueError as error:
            raise CheckpointInvalid(f"checkpoint size {error}") from error
        try:
            root = decode_hash(lines[2])
        except ValueError as error:
            raise CheckpointInvalid(f"checkpoint root {error}") from error
        return cls(origin, size, root, tuple(extensions))


def root_origin(instance: str) -> str:
    """Return the origin of an instance's root log: the instance's name.

    Raises:
        CheckpointInvalid: The name is none of an instance.
    """
    if not is_instance(instance):
        raise CheckpointInvalid(f"instance {instance!r} is not 1 to 120 of a-z0-9./-")
    return instance


def chain_origin(instance: str, chain: str) -> str:
    """Return the origin of the log of one chain: the instance's name, a slash, and the chain's as it is.

    Origins are compared byte for byte, so the chain's name needs no other form in them; in file names it does
    (:func:`sealstream.schemas.tenant_name.encode_tenant`).

    Arguments:
        instance: The instance's name.
        chain: A tenant, or ``!partition-<n>``.

    Raises:
        CheckpointInvalid: One of the names is none.
    """
    if not is_chain(chain):
        raise CheckpointInvalid(f"chain {chain!r} is neither a tenant nor !partition-<n>")
    return f"{root_origin(instance)}/{chain}"


def _line(text: str) -> bytes:
    try:
        line = text.encode()
    except UnicodeEncodeError as error:
        raise CheckpointInvalid(f"checkpoint line {text!r} is no UTF-8") from error
    if not line or _CONTROLS.search(line):
        raise CheckpointInvalid(f"checkpoint line {text!r} is empty or has a control character")
    return line
