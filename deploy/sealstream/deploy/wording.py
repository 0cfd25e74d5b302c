"""What a verification came to, in words, for the command line and the demonstration."""

from __future__ import annotations

from sealstream.sinks.verifier.audit import VerifyResult


def verification_headline(result: VerifyResult) -> str:
    """Return in one line what was found: the first violation with its place, or how much holds."""
    checked = f"{result.entries:,} entries of {result.chains:,} chain{'' if result.chains == 1 else 's'}"
    if not result.violations:
        return f"clean: {checked} hold"
    first = result.violations[0]
    place = f"tenant {first.tenant}" + ("" if first.seq is None else f", seq {first.seq}")
    more = f", and {result.violations_total - 1:,} more" if result.violations_total > 1 else ""
    return f"violation {first.type.value}: {place}{more} ({checked} checked)"
