"""What the gateway makes for a sender is the same at each retry, and at no other time."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.producers.gateway.derivation import Derivation, parse_secret
from sealstream.schemas.entry import is_event_id
from sealstream.schemas.errors import ConfigError

SECRET = bytes(range(32))
EVENT: dict[str, Any] = {"action": "a", "actor": {"type": "user", "id": "1"}, "metadata": {"x": "1", "y": "2"}}


@pytest.fixture
def derivation() -> Derivation:
    """What a gateway has."""
    return Derivation(SECRET)


class TestIds:
    """Ids of events that have none."""

    def test_a_retry_has_the_same_id_on_every_gateway(self) -> None:
        """The id follows from the secret and the request alone; this one stands here because it may never change."""
        ids = {Derivation(SECRET).event_id("key:1", "acme", b"retry-1", 0) for _ in range(3)}

        assert ids == {"608087af-8fef-85d4-82df-96042d359d03"}

    def test_it_is_a_uuid_of_version_8(self, derivation: Derivation) -> None:
        """Tools that know UUIDs know it, and it is an event's id."""
        event_id = derivation.event_id("key:1", "acme", b"k", 0)

        assert (uuid.UUID(event_id).version, uuid.UUID(event_id).variant) == (8, uuid.RFC_4122)
        assert is_event_id(event_id)

    def test_everything_that_tells_requests_apart_counts(self, derivation: Derivation) -> None:
        """Another credential, tenant, key, place in the batch or secret gives another id."""
        ids = {
            derivation.event_id("key:1", "acme", b"k", 0),
            derivation.event_id("key:2", "acme", b"k", 0),
            derivation.event_id("key:1", "other", b"k", 0),
            derivation.event_id("key:1", "acme", b"l", 0),
            derivation.event_id("key:1", "acme", b"k", 1),
            Derivation(bytes(32)).event_id("key:1", "acme", b"k", 0),
        }

        assert len(ids) == 6

    @given(st.text(max_size=5), st.text(max_size=5), st.binary(max_size=5))
    def test_no_part_runs_into_the_next(self, credential: str, tenant: str, key: bytes) -> None:
        """Where one part ends and the next begins is a part of what is hashed."""
        derivation = Derivation(SECRET)
        moved = derivation.event_id(f"{credential}x", tenant, key, 0)

        assert moved != derivation.event_id(credential, f"x{tenant}", key, 0)
        assert derivation.event_id(credential, tenant, key, 0) != moved


class TestSalts:
    """Salts."""

    def test_how_json_is_written_does_not_count(self, derivation: Derivation) -> None:
        """A client that orders members otherwise at a retry makes the same bytes."""
        other = {name: EVENT[name] for name in reversed(EVENT)} | {"metadata": {"y": "2", "x": "1"}}

        assert derivation.salt("key:1", "acme", "e", EVENT) == derivation.salt("key:1", "acme", "e", other)
        assert len(derivation.salt("key:1", "acme", "e", EVENT)) == 16

    def test_everything_that_tells_events_apart_counts(self, derivation: Derivation) -> None:
        """Another credential, tenant, id, content or secret gives another salt: nobody else can have it made again."""
        salts = {
            derivation.salt("key:1", "acme", "e", EVENT),
            derivation.salt("key:2", "acme", "e", EVENT),
            derivation.salt("key:1", "other", "e", EVENT),
            derivation.salt("key:1", "acme", "f", EVENT),
            derivation.salt("key:1", "acme", "e", EVENT | {"action": "b"}),
            Derivation(bytes(32)).salt("key:1", "acme", "e", EVENT),
        }

        assert len(salts) == 6


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ab" * 31, "ab " * 32, " " + "ab" * 32])
def test_what_is_no_secret_is_refused(text: str) -> None:
    """A gateway does not start with a secret that is short or mistyped, and the error does not show it."""
    with pytest.raises(ConfigError, match="SEALSTREAM_GATEWAY_SECRET") as caught:
        parse_secret(text)

    assert not text or text not in str(caught.value)
    assert parse_secret("ab" * 32) == b"\xab" * 32
