"""A gateway that cannot know whom to believe does not start, and one that has no Kafka says so."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from sealstream.producers.gateway.probe import KafkaProbe
from sealstream.producers.gateway.service import UNUSABLE, authentication_of, run
from sealstream.schemas.errors import ConfigError, Unreachable
from sealstream.worker.settings import load_settings

TOKENS = {
    "SEALSTREAM_GATEWAY_ISSUER": "https://issuer.example",
    "SEALSTREAM_GATEWAY_AUDIENCE": "audit-gateway",
    "SEALSTREAM_GATEWAY_JWKS_URL": "https://issuer.example/keys",
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "neither SEALSTREAM_GATEWAY_KEYS nor SEALSTREAM_GATEWAY_ISSUER"),
        ({"SEALSTREAM_GATEWAY_KEYS": "/nowhere/keys.json"}, "cannot be read"),
        (TOKENS | {"SEALSTREAM_GATEWAY_AUDIENCE": ""}, "SEALSTREAM_GATEWAY_AUDIENCE is not set"),
        (TOKENS | {"SEALSTREAM_GATEWAY_JWKS_URL": ""}, "SEALSTREAM_GATEWAY_JWKS_URL is not set"),
        (TOKENS | {"SEALSTREAM_GATEWAY_JWKS_URL": "http://issuer.example/keys"}, "https"),
        (TOKENS | {"SEALSTREAM_GATEWAY_ALGORITHMS": "HS256"}, "HS256"),
    ],
)
def test_without_a_way_to_know_clients_it_does_not_start(settings: dict[str, str], words: str) -> None:
    """What is missing or unsafe is named before a port is opened."""
    with pytest.raises(ConfigError, match=words):
        authentication_of(load_settings(settings))
    assert authentication_of(load_settings(TOKENS)).problem == ""


def test_a_wrong_setting_is_the_exit_code_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with every worker: 2 says that nothing has begun."""
    for name in ("logs.configure", "StopSignal.install"):
        monkeypatch.setattr(f"sealstream.producers.gateway.service.{name}", Mock())

    assert run(load_settings({"SEALSTREAM_DATA_DIRECTORY": str(tmp_path)})) == UNUSABLE


def test_the_probe_says_what_is_wrong() -> None:
    """Before it has asked, without Kafka and without the topic it is not well, each for its own reason."""
    there: list[bool] = []

    def ask() -> bool:
        if not there:
            raise Unreachable("Kafka does not answer")
        return there[0]

    probe = KafkaProbe(ask, "audit.events")
    found = [probe.problem]
    for answer in ([], [False], [True]):
        there[:] = answer
        probe.look()
        found.append(probe.problem)

    assert found == ["Kafka was not asked yet", "Kafka does not answer", "the topic audit.events does not exist", ""]
