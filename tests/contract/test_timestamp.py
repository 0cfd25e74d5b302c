"""Timestamps of RFC 3161 as OpenSSL makes them: which ones are believed."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealstream.schemas.errors import ConfigError, SealstreamError, TimestampInvalid, TimestampUntrusted
from sealstream.schemas.timestamp import TIMESTAMP_BYTES_MAX, verify_timestamp
from support.timestamping import Authority, expired_authority, make_authority, short_lived_authority

DATA = b"demo.example/audit\n5\nVnNereaue0S+hslWN71qjalGiNSW/SKWtffPyqW5pXM=\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that is trusted."""
    return make_authority(tmp_path_factory.mktemp("tsa") / "one")


@pytest.fixture(scope="module")
def token(authority: Authority) -> bytes:
    """Its timestamp over the data."""
    return authority.stamp(DATA)


def test_what_a_timestamp_says(authority: Authority, token: bytes) -> None:
    """A timestamp says when, how exactly, and in whose name; the time by which it was there is the latest possible."""
    found = verify_timestamp(token, DATA, authority.roots_pem)
    assert abs(found.time_seconds - time.time()) < 120
    assert (found.accuracy_seconds, found.authority) == (1.5, "CN=Test TSA")
    assert found.existed_by_seconds == int(found.time_seconds) + 2


def test_other_bytes(authority: Authority, token: bytes) -> None:
    """A timestamp over other bytes is none over these."""
    with pytest.raises(TimestampInvalid, match="other bytes"):
        verify_timestamp(token, DATA + b"x", authority.roots_pem)


def test_other_authorities(tmp_path: Path, authority: Authority, token: bytes) -> None:
    """An authority counts only under a root that the reader gives, whatever name it has."""
    other = make_authority(tmp_path / "other")
    with pytest.raises(TimestampUntrusted):
        verify_timestamp(token, DATA, other.roots_pem)
    both = authority.roots_pem + make_authority(tmp_path / "third", "Third TSA").roots_pem
    assert verify_timestamp(token, DATA, both.decode()).authority == authority.name


def test_an_authority_that_was_expired(tmp_path: Path) -> None:
    """A timestamp that was made after the end of its authority's certificate is refused."""
    authority = expired_authority(tmp_path / "tsa")
    with pytest.raises(TimestampUntrusted):
        verify_timestamp(authority.stamp(DATA), DATA, authority.roots_pem)


def test_an_authority_that_was_not_yet_valid(tmp_path: Path) -> None:
    """A timestamp from before its authority's certificate began is refused."""
    authority = make_authority(tmp_path / "tsa", not_before=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(TimestampUntrusted):
        verify_timestamp(authority.stamp(DATA), DATA, authority.roots_pem)


def test_an_authority_that_has_expired_since(tmp_path: Path) -> None:
    """A timestamp outlives its authority's certificate: what counts is the time at which it was made."""
    ends = time.time() + 4
    authority = short_lived_authority(tmp_path / "tsa", 4)
    token = authority.stamp(DATA)
    while time.time() < ends + 1:
        time.sleep(0.2)
    found = verify_timestamp(token, DATA, authority.roots_pem)
    assert (found.authority, found.time_seconds < ends < time.time()) == ("CN=Short TSA", True)


def test_an_answer_to_somebody_else(authority: Authority, token: bytes) -> None:
    """Whoever asks with a number takes only the answer to it: an old response is no new one."""
    with pytest.raises(TimestampInvalid, match="nonce"):
        verify_timestamp(token, DATA, authority.roots_pem, nonce=1)


def test_changed_and_cut(authority: Authority, token: bytes) -> None:
    """A byte that is changed or missing makes a typed error, or changes nothing of what the timestamp says."""
    said = verify_timestamp(token, DATA, authority.roots_pem)
    chance = random.Random(3161)
    refused = 0
    for place in range(0, len(token), 3):
        changed = bytearray(token)
        changed[place] ^= 1 << chance.randrange(8)
        for data in (bytes(changed), token[:place]):
            # The certificates beside the signer's are not signed: they are there for those who need them.
            outcome = _outcome(data, authority)
            assert outcome in (said, TimestampInvalid, TimestampUntrusted)
            refused += outcome != said
    assert refused > len(token) // 3


def _outcome(token: bytes, authority: Authority) -> object:
    try:
        return verify_timestamp(token, DATA, authority.roots_pem)
    except SealstreamError as error:
        return type(error)


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x80", b"<html>", b"\x30\x84\xff\xff\xff\xff", bytes(100)])
def test_no_timestamps(data: bytes, authority: Authority) -> None:
    """What is no response of an authority is refused by a typed error."""
    with pytest.raises(TimestampInvalid):
        verify_timestamp(data, DATA, authority.roots_pem)


def test_a_refusal(authority: Authority) -> None:
    """A response by which the authority refuses is no timestamp."""
    with pytest.raises(TimestampInvalid):
        verify_timestamp(bytes.fromhex("30053003020102"), DATA, authority.roots_pem)


def test_bounds(authority: Authority) -> None:
    """More than a response ever has is not read."""
    with pytest.raises(TimestampInvalid, match="at most"):
        verify_timestamp(bytes(TIMESTAMP_BYTES_MAX + 1), DATA, authority.roots_pem)


@pytest.mark.parametrize("roots", [b"", b" \n", b"no certificate", b"-----BEGIN CERTIFICATE-----\nxx\n"])
def test_no_roots(roots: bytes, token: bytes) -> None:
    """Roots that are none are a mistake of whoever gives them, and are said to be one."""
    with pytest.raises(ConfigError):
        verify_timestamp(token, DATA, roots)
