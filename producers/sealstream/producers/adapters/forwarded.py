"""The header ``Forwarded`` (RFC 7239), read from its end: what stands there the nearest proxy has written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_QUOTE: Final = '"'
_FOR: Final = "for"
_PAIR: Final = re.compile(
    r"""\s*([^\s=,;"\\]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,;"\\]*))\s*(?:;|\Z)|\s*(?:;|\Z)""", re.DOTALL
)
"""A parameter, or none. Ports and brackets, which belong in quotes, are taken without them too: many proxies do so."""
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def forwarded_for(value: str) -> Iterator[str | None]:
    """Yield whom each element names as its sender, the last one first; ``None`` where that cannot be told.

    A header is read from its end, because its beginning may come from anybody: a quote that a client opens there must
    not swallow what proxies have added behind it. An identifier stands as it is: an address, perhaps with a port,
    ``unknown``, or one that hides it, ``_hidden``.

    Arguments:
        value: The header, its lines joined by commas.
    """
    rest: str | None = value
    while rest is not None:
        start = _start_of_last(rest)
        if start is None:
            yield None
            return
        element, rest = rest[start:], rest[: start - 1] if start else None
        if element.strip():  # RFC 9110, section 5.6.1: empty elements do not count
            yield _sender(element)


def _start_of_last(text: str) -> int | None:
    """Return where the last element begins; ``None`` if a quote that ends in it begins nowhere."""
    at = len(text)
    while True:
        comma, quote = text.rfind(",", 0, at), text.rfind(_QUOTE, 0, at)
        if comma >= quote:  # both are -1 where there is neither
            return comma + 1
        opening = _opening(text, quote)
        if opening is None:
            return None
        at = opening


def _opening(text: str, closing: int) -> int | None:
    at = text.rfind(_QUOTE, 0, closing)
    while at >= 0 and _is_escaped(text, at):
        at = text.rfind(_QUOTE, 0, at)
    return at if at >= 0 else None


def _is_escaped(text: str, at: int) -> bool:
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _sender(element: str) -> str | None:
    """Return the parameter ``for`` of an element; ``None`` if it breaks the syntax, or has not just one."""
    found: list[str] = []
    at = 0
    while at < len(element):
        pair = _PAIR.match(element, at)
        if pair is None:
            return None
        name, quoted, plain = pair.groups()
        if name is not None and name.lower() == _FOR:
            found.append(plain if quoted is None else _ESCAPED.sub(r"\1", quoted))
        at = pair.end()
    return found[0] if len(found) == 1 else None
