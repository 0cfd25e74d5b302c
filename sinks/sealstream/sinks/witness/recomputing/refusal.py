"""How a checkpoint is refused: what the log is told, and what is recorded of it."""

from __future__ import annotations

from sealstream.schemas.errors import SealstreamError
from sealstream.schemas.violation import Violation


class Refusal(Exception):  # the judge raises what it carries
    """A checkpoint cannot be cosigned.

    Arguments:
        error: What the judge raises: Untrusted or UnsafeState.
        violation: What is recorded; ``None`` where it stands on audit.violations already, or nothing is at fault.
    """

    def __init__(self, error: SealstreamError, violation: Violation | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.violation = violation
