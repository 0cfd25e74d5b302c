"""The witness's README says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import sealstream.sinks.witness
from sealstream.schemas.trust import CLOCK_SKEW_SECONDS
from sealstream.sinks.witness.memory import FORKS_MAX
from sealstream.sinks.witness.protocol import BODY_BYTES_MAX, STATUS
from sealstream.sinks.witness.server import CONNECTIONS_MAX, JUDGE_SECONDS_MAX, REQUEST_SECONDS_MAX

README: Final = (Path(sealstream.sinks.witness.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_every_refusal_is_explained() -> None:
    """The table of answers has every reason with its status, and none that there is not."""
    rows = re.findall(r"^\| (\d{3}(?:, \d{3})*) \| ([^|]+) \|", README, re.MULTILINE)
    told = {
        reason: {int(status) for status in statuses.split(", ")}
        for statuses, reasons in rows
        for reason in re.findall(r"`([a-z-]+)`", reasons)
    }
    assert set(told) == {str(reason) for reason in STATUS}
    assert all(STATUS[reason] in told[str(reason)] for reason in STATUS)


def test_bounds() -> None:
    """The numbers under "Bounded" and of the clock are those of the code."""
    (bounded,) = re.findall(r"\*\*Bounded\.\*\*(.*?)SIGTERM", README, re.DOTALL)
    numbers = [int(number) for number in re.findall(r"\d+", bounded)]
    seconds = int(REQUEST_SECONDS_MAX)
    wanted = [CONNECTIONS_MAX, BODY_BYTES_MAX // 1024, seconds, seconds, int(JUDGE_SECONDS_MAX), FORKS_MAX]
    assert numbers == wanted
    assert f"set back by at most {CLOCK_SKEW_SECONDS} s" in README
