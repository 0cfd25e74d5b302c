"""The name of a chain as part of a file's or an object's name: injective, and safe where case does not count.

Two tenants that differ in case only are two tenants; in a file system that ignores case they would be one file.
"""

from __future__ import annotations

import re
from typing import Final

from sealstream.schemas.entry import is_tenant
from sealstream.schemas.errors import NameInvalid

_ESCAPE: Final = "_"
_FINAL_DOT: Final = "_0"
_BANG: Final = "_1"
_ENCODED: Final = re.compile(r"(?:[a-z0-9.-]|_[a-z01_])+")
_TO_ESCAPE: Final = re.compile(r"[A-Z_!]|\.$")
_ESCAPED: Final = re.compile(r"_(.)")
_PARTITION_CHAIN: Final = re.compile(r"!partition-(0|[1-9][0-9]{0,9})")
_PARTITION_MAX: Final = 2**31 - 1


def is_chain(name: str) -> bool:
    """Return whether a name may be a chain's: a tenant, or ``!partition-<n>``."""
    partition = _PARTITION_CHAIN.fullmatch(name)
    return int(partition[1]) <= _PARTITION_MAX if partition is not None else is_tenant(name)


def encode_tenant(chain: str) -> str:
    """Return a chain's name for use in file and object names: at most 128 of ``a-z0-9._-``.

    Lower-case letters, digits, ``-`` and ``.`` stand for themselves, ``_a`` for ``A``, ``__`` for ``_``, ``_1`` for
    ``!``, and ``_0`` for a dot at the end (some file systems drop it).

    Arguments:
        chain: A tenant, or ``!partition-<n>``.

    Raises:
        NameInvalid: The name is none of a chain.
    """
    if not is_chain(chain):
        raise NameInvalid(f"{chain[:80]!r} is neither a tenant nor !partition-<n>")
    return _TO_ESCAPE.sub(lambda found: _escape(found[0]), chain)


def decode_tenant(name: str) -> str:
    """Return the chain that an encoded name stands for, the inverse of :func:`encode_tenant`.

    Raises:
        NameInvalid: The name is not what :func:`encode_tenant` makes of a chain's name.
    """
    if len(name) <= 128 and _ENCODED.fullmatch(name) is not None:
        chain = _ESCAPED.sub(lambda found: _unescape(found[1]), name)
        if is_chain(chain) and encode_tenant(chain) == name:
            return chain
    raise NameInvalid(f"{name[:150]!r} is not the encoded name of a chain", hint="the file was not written by us")


def _escape(character: str) -> str:
    if character == ".":
        return _FINAL_DOT
    if character == "!":
        return _BANG
    return _ESCAPE + character.lower()


def _unescape(character: str) -> str:
    return {"0": ".", "1": "!", "_": "_"}.get(character, character.upper())
