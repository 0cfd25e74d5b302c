"""Options that take a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import typer


def time_option(help_text: str) -> Any:
    """Return an option that takes an ISO 8601 time; one that says no zone is UTC."""
    return typer.Option(metavar="TIME", parser=_parse_time, help=help_text)


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no ISO 8601 time") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
