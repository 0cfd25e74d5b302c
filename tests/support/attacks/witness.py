"""Asking a witness in a log's name, and reading off its metrics what it has said to that."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from sealstream.schemas.note_key import SignerKey
from support.attacks.attack import Report
from support.sealproofs import Instance
from support.witnessing import WitnessedLog, WitnessProcess

_REFUSED: Final = re.compile(r'^sealstream_witness_refused_total\{reason="([a-z-]+)"\} (\d+)', re.MULTILINE)


def witnessed_log(instance: Instance, key: SignerKey | None = None) -> WitnessedLog:
    """Return the root log of an instance, as it can be shown to a witness."""
    log = WitnessedLog((), key or instance.log)
    log.leaves = [one.hash() for one in instance.rounds]
    return log


def ask(witness: WitnessProcess, body: bytes) -> list[Report]:
    """Ask a witness, and return what it reported: nothing if it has cosigned."""
    before = _refused(witness)
    answer = witness.ask(body)
    reasons = list((_refused(witness) - before).elements())
    assert (answer.status == 200) == (not reasons), f"{answer}: {reasons}"
    return [Report("witness", reason) for reason in reasons]


def _refused(witness: WitnessProcess) -> Counter[str]:
    status, text = witness.get("/metrics")
    assert status == 200
    return Counter({reason: int(float(count)) for reason, count in _REFUSED.findall(text)})
