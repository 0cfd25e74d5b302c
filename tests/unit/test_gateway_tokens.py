"""Tokens count if the issuer signed them, for this gateway, for now, and in a way that was allowed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from sealstream.producers.gateway.issuer_keys import (
    ATTEMPT_SECONDS_MIN,
    FRESH_SECONDS,
    STALE_SECONDS_MAX,
    IssuerKeys,
    fetch_from,
)
from sealstream.producers.gateway.problems import Problem
from sealstream.producers.gateway.tokens import CheckedToken, KeyUnknown, check_token, parse_algorithms, parse_keys
from sealstream.schemas.errors import ConfigError, Unreachable
from support.issuer import AUDIENCE, RULES, Issuer

ISSUER = Issuer()
STRANGER = Issuer()
Make = Callable[[], str]


def check(token: str, *, now_seconds: float | None = None, **rules: Any) -> CheckedToken:
    """Check a token as a gateway does that has the issuer's keys."""
    found = parse_keys(ISSUER.key_set(), RULES.algorithms)
    now = time.time() if now_seconds is None else now_seconds
    return check_token(token.encode(), found, replace(RULES, **rules), now_seconds=now)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_of_the_issuer_counts(algorithm: str) -> None:
    """It gives its tenant; issuer and subject together tell its holder from all others."""
    credential = check(ISSUER.token(algorithm=algorithm)).credential

    assert (credential.tenant, credential.name) == ("acme", "jwt:https://issuer.example svc-1")
    assert credential.allows("anything.done")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (ISSUER.unsigned, "does not count"),
        (ISSUER.signed_with_the_public_key, "does not count"),
        (lambda: ISSUER.token(algorithm="RS512"), "does not count"),
        (STRANGER.token, "signature"),
        (lambda: STRANGER.token(algorithm="ES256"), "signature"),
        (lambda: ISSUER.token(header={"kid": None}, iss="https://other.example"), "another issuer"),
        (lambda: ISSUER.token(iss=None), "another issuer"),
        (lambda: ISSUER.token(aud="somebody-else"), "another audience"),
        (lambda: ISSUER.token(aud=[["audit-gateway"]]), "another audience"),
        (lambda: ISSUER.token(aud=None), "another audience"),
        (lambda: ISSUER.token(exp=int(time.time()) - 100), "expired"),
        (lambda: ISSUER.token(exp=None), "expired"),
        (lambda: ISSUER.token(exp="tomorrow"), "expired"),
        (lambda: ISSUER.token(exp=True), "expired"),
        (lambda: ISSUER.token(nbf=int(time.time()) + 1_000), "not count yet"),
        (lambda: ISSUER.token(iat=int(time.time()) + 1_000), "not count yet"),
        (lambda: ISSUER.token(nbf="now"), "not count yet"),
        (lambda: ISSUER.token(sub=None), "subject"),
        (lambda: ISSUER.token(sub=""), "subject"),
        (lambda: ISSUER.token(sub="x" * 600), "subject"),
        (lambda: f"{ISSUER.token()[:-8]}AAAAAAAA", "signature"),
        (lambda: f"{ISSUER.token().rpartition('.')[0]}.", "signature"),
        (lambda: ISSUER.token().replace(".", "..", 1), "no signed JWT"),
        (lambda: "a.b.c", "no signed JWT"),
        (lambda: "eyJhbGciOiJSUzI1NiJ9", "no signed JWT"),
        (lambda: f"{'e' * 9_000}.a.b", "no signed JWT"),
    ],
)
def test_no_other_token_counts(make: Make, words: str) -> None:
    """Unsigned, forged, of another issuer, for another audience, expired or not yet begun: 401, and no word of it."""
    token = make()
    with pytest.raises(Problem, match=words) as caught:
        check(token)

    assert caught.value.status is HTTPStatus.UNAUTHORIZED
    assert caught.value.headers()["www-authenticate"].startswith("Bearer")
    assert token not in json.dumps(caught.value.document())


def test_a_key_within_the_token_is_not_looked_at() -> None:
    """A token that brings its own key, or says where to fetch one, is judged by the issuer's."""
    brought = {"jwk": STRANGER.rsa.as_dict(private=False), "kid": "rsa-1"}

    with pytest.raises(Problem, match="signature"):
        check(STRANGER.token(header=brought))
    with pytest.raises(KeyUnknown):
        check(STRANGER.token(header={"kid": "theirs", "jku": "https://other.example/keys"}))
    with pytest.raises(Problem, match="signature"):
        check(ISSUER.critical())


def test_clocks_may_differ_a_little() -> None:
    """Half a minute after its end a token still counts, and a little later it does not."""
    now = int(time.time())
    token = ISSUER.token(exp=now)

    assert check(token, now_seconds=now + 29).credential.tenant == "acme"
    with pytest.raises(Problem, match="expired"):
        check(token, now_seconds=now + 30)


@pytest.mark.parametrize("claims", [{"tenant": None}, {"tenant": "!x"}, {"tenant": 5}, {"tenant": ["acme"]}])
def test_a_token_without_a_tenant_opens_nothing(claims: dict[str, Any]) -> None:
    """Who he is is known, and that he may write nowhere: 403."""
    with pytest.raises(Problem, match="tenant") as caught:
        check(ISSUER.token(**claims))

    assert caught.value.status is HTTPStatus.FORBIDDEN


def test_a_scope_may_be_demanded() -> None:
    """Where a scope is set, a token has to have it as a whole word."""
    assert check(ISSUER.token(scope="a audit:write"), scope="audit:write").credential.tenant == "acme"
    assert check(ISSUER.token(aud=["x", AUDIENCE])).credential.tenant == "acme"
    for scope in ("audit:write-not", "", None):
        with pytest.raises(Problem, match="scope"):
            check(ISSUER.token(scope=scope), scope="audit:write")


def test_keys_that_cannot_verify_are_left_out() -> None:
    """Secret keys, keys for encryption, short ones and unknown ones neither count nor keep the others from counting."""
    good = json.loads(ISSUER.key_set())["keys"][0]
    others = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s"},
        good | {"kid": "enc", "use": "enc"},
        good | {"kid": "ops", "key_ops": ["sign"]},
        good | {"kid": "alg", "alg": "PS512"},
        good | {"kid": "short", "n": "AQAB"},
        good | {"kid": 5},
        ISSUER.ec.as_dict(private=True) | {"kid": "private"},
        {"kty": "AKP", "kid": "later"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "!"},
        5,
    ]
    data = json.dumps({"keys": [*others, good]}).encode()

    assert [key.kid for key in parse_keys(data, RULES.algorithms)] == ["rsa-1"]
    for broken in (b"[]", b"{", b'{"keys": 5}', json.dumps({"keys": [good] * 101}).encode()):
        with pytest.raises(ValueError, match=r"JWK|keys|char"):
            parse_keys(broken, RULES.algorithms)


@pytest.mark.parametrize("text", ["none", "HS256", "RS256,HS256", "", "rs256"])
def test_only_public_keys_may_be_allowed(text: str) -> None:
    """No setting lets an unsigned or a symmetric token count."""
    with pytest.raises(ConfigError, match="SEALSTREAM_GATEWAY_ALGORITHMS"):
        parse_algorithms(text)


class Source:
    """An issuer's server that is asked, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked = 0
        self.away = False
        self.data = ISSUER.key_set()

    def fetch(self) -> bytes:
        """Return the keys, or fail."""
        self.asked += 1
        if self.away:
            raise Unreachable("the issuer is away")
        return self.data

    def keys(self) -> IssuerKeys:
        """Return what a gateway keeps of it."""
        return IssuerKeys(self.fetch, RULES.algorithms, now=lambda: self.seconds)


class TestFetching:
    """How often the issuer is asked, and what counts while it is away."""

    async def test_once_for_many_requests(self) -> None:
        """However many requests come, the keys are fetched once, and again after five minutes."""
        source = Source()
        keys = source.keys()

        found = await asyncio.gather(*(keys.keys() for _ in range(20)))
        assert (len(found[0]), source.asked) == (2, 1)
        source.seconds = FRESH_SECONDS + 1
        await keys.keys()
        await keys.newer_keys()
        assert source.asked == 2

    async def test_tokens_that_name_unknown_keys_make_no_storm(self) -> None:
        """A new key is found at once; made-up ones ask the issuer no more than once in ten seconds."""
        source = Source()
        keys = source.keys()
        await keys.keys()
        for _ in range(50):
            await keys.newer_keys()
        assert source.asked == 1
        source.seconds = ATTEMPT_SECONDS_MIN
        for _ in range(50):
            await keys.newer_keys()
        assert source.asked == 2

    async def test_an_issuer_that_is_away(self) -> None:
        """Known keys count on for an hour; then, or with none, tokens are answered by 503 and when to try again."""
        source = Source()
        keys = source.keys()
        await keys.keys()
        source.away = True
        source.seconds = STALE_SECONDS_MAX
        assert len(await keys.keys()) == 2
        await keys.newer_keys()
        source.seconds += ATTEMPT_SECONDS_MIN + 1
        with pytest.raises(Problem, match="cannot be fetched") as caught:
            await keys.keys()
        assert (caught.value.status, caught.value.retry_after_seconds) == (HTTPStatus.SERVICE_UNAVAILABLE, 10)

        source.away, source.seconds = False, source.seconds + ATTEMPT_SECONDS_MIN
        assert len(await keys.keys()) == 2

    @pytest.mark.parametrize("url", ["http://issuer.example/keys", "file:///keys", "https://u:p@issuer.example", "x"])
    def test_keys_come_by_tls(self, url: str) -> None:
        """Keys that anybody on the way could change are not fetched."""
        with pytest.raises(ConfigError):
            fetch_from(url)
