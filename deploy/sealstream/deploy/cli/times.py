"""Options that take a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import typer

_SEQ_DIGITS_MAX: Final = 18


def time_option(help_text: str) -> Any:
    """Return an option that takes an ISO 8601 time; one that says no zone is UTC."""
    return typer.Option(metavar="TIME", parser=_parse_time, help=help_text)


def time_or_seq_option(name: str, help_text: str, default: str) -> Any:
    """Return an option that takes an ISO 8601 time, or a place in a chain as a number."""
    return typer.Option(name, metavar="TIME|SEQ", parser=_parse_time_or_seq, help=help_text, show_default=default)


def _parse_time_or_seq(text: str) -> datetime | int:
    if text.isascii() and text.isdecimal() and len(text) <= _SEQ_DIGITS_MAX:
        return int(text)
    return _parse_time(text)


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no ISO 8601 time") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
