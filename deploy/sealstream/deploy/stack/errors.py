"""The errors of the local stack."""

from __future__ import annotations

from sealstream.schemas.errors import SealstreamError


class StackError(SealstreamError):
    """The local stack cannot be prepared, started or stopped.

    Arguments:
        message: Which part failed, and how.
        hint: What to do about it.
        log_tail: The last lines of the failing server's log; empty if it wrote none.
    """

    def __init__(self, message: str, *, hint: str = "", log_tail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log_tail = log_tail

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n{self.log_tail}" if self.log_tail else text
