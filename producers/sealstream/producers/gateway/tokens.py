"""Tokens of an OpenID Connect issuer: signed JWTs (RFC 7519), checked as RFC 8725 says.

Only asymmetric signatures count, and of those only the configured ones; what a token says of its own key (``jwk``,
``jku``, ``x5c``) is not looked at, and ``alg: none`` is no algorithm.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, cast

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from sealstream.producers.gateway.credentials import TOKEN_BYTES_MAX, Credential
from sealstream.producers.gateway.problems import forbidden, unauthorized
from sealstream.schemas.entry import is_tenant
from sealstream.schemas.errors import ConfigError

KEY_TYPES: Final[dict[str, tuple[str, str]]] = {
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""The algorithms that can be allowed (RFC 7518, RFC 9864), with the type of key and the curve that each needs."""

LEEWAY_SECONDS: Final = 30
"""How far the issuer's clock and ours may differ."""
JWKS_BYTES_MAX: Final = 262_144
KEYS_MAX: Final = 100
RSA_BITS_MIN: Final = 2_048
_SUBJECT_CHARACTERS_MAX: Final = 512
_NUMBERS: Final = (int, float)
_KEY_CLASSES: Final[dict[str, type[RSAKey | ECKey | OKPKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}

PublicKey = RSAKey | ECKey | OKPKey


class KeyUnknown(Exception):
    """A token names a key that is not among the issuer's; it may be new."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of an issuer.

    Arguments:
        kid: Its name; empty if it has none.
        algorithms: What it may verify.
        key: The key.
    """

    kid: str
    algorithms: frozenset[str]
    key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Which tokens count.

    Arguments:
        issuer: Their ``iss``.
        audience: What their ``aud`` must name.
        algorithms: How they may be signed.
        tenant_claim: The claim that names the tenant.
        scope: What their ``scope`` must contain; empty for no demand.
    """

    issuer: str
    audience: str
    algorithms: frozenset[str]
    tenant_claim: str
    scope: str = ""


@dataclass(frozen=True, slots=True)
class CheckedToken:
    """A token that counts.

    Arguments:
        credential: What it allows.
        expires_seconds: Until when, in seconds since the Unix epoch.
    """

    credential: Credential
    expires_seconds: float


def parse_algorithms(text: str) -> frozenset[str]:
    """Return the algorithms that a setting allows.

    Raises:
        ConfigError: One is unknown, or symmetric, or there is none.
    """
    names = frozenset(name.strip() for name in text.split(","))
    for name in sorted(names - KEY_TYPES.keys()):
        raise ConfigError(
            f"SEALSTREAM_GATEWAY_ALGORITHMS names {name!r}, which is none that can be allowed",
            hint=f"some of {', '.join(KEY_TYPES)}",
        )
    return names


def parse_keys(data: bytes, algorithms: frozenset[str]) -> tuple[IssuerKey, ...]:
    """Return those keys of a JWK set (RFC 7517) that can verify one of the algorithms; others are left out.

    Raises:
        ValueError: It is no JWK set.
    """
    document: Any = orjson.loads(data)
    members: Any = cast("dict[str, Any]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("it is no JWK set")  # noqa: TRY004  # the one error of what does not parse
    listed = cast("Sequence[Any]", members)
    if len(listed) > KEYS_MAX:
        raise ValueError(f"it has more than {KEYS_MAX} keys")
    found = (_key(cast("dict[str, Any]", member), algorithms) for member in listed if isinstance(member, dict))
    return tuple(key for key in found if key is not None)


def check_token(token: bytes, keys: Iterable[IssuerKey], rules: TokenRules, *, now_seconds: float) -> CheckedToken:
    """Return what a token allows.

    Arguments:
        token: The token.
        keys: The issuer's keys.
        rules: What it must be like.
        now_seconds: The present, in seconds since the Unix epoch.

    Raises:
        Problem: It is no token of the issuer that counts now, or allows nothing here.
        KeyUnknown: It names a key that is not among these.
    """
    header = _header(token)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms:
        raise unauthorized("the token is signed in a way that does not count here")
    key = _choose(header.get("kid"), algorithm, keys)
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    try:
        payload = jws.deserialize_compact(token, key.key, [algorithm], registry).payload
    except (JoseError, ValueError, TypeError):
        raise unauthorized("the token's signature does not verify") from None
    return _check_claims(payload or b"", rules, now_seconds)


def _header(token: bytes) -> Mapping[str, Any]:
    parts = token.split(b".")
    if len(parts) != 3 or len(token) > TOKEN_BYTES_MAX:
        raise unauthorized("the token is no signed JWT")
    try:
        header: Any = orjson.loads(base64.urlsafe_b64decode(parts[0] + b"=" * (-len(parts[0]) % 4)))
    except (ValueError, binascii.Error):
        header = None
    if not isinstance(header, dict):
        raise unauthorized("the token is no signed JWT")
    return cast("dict[str, Any]", header)


def _choose(kid: object, algorithm: str, keys: Iterable[IssuerKey]) -> IssuerKey:
    """Return the key that a token says it is signed with; without a name it must be clear which one is meant."""
    able = [key for key in keys if algorithm in key.algorithms]
    named = [key for key in able if key.kid == kid] if kid is not None else able
    if len(named) == 1:
        return named[0]
    if named:
        raise unauthorized("the token does not say which of the issuer's keys signed it")
    raise KeyUnknown


def _check_claims(payload: bytes, rules: TokenRules, now_seconds: float) -> CheckedToken:
    try:
        found: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise unauthorized("the token has no claims")
    claims = cast("dict[str, Any]", found)
    if claims.get("iss") != rules.issuer:
        raise unauthorized("the token is of another issuer")
    audience = claims.get("aud")
    if audience != rules.audience and not (isinstance(audience, list) and rules.audience in audience):
        raise unauthorized("the token is for another audience")
    expires = claims.get("exp")
    if not _is_number(expires) or now_seconds >= expires + LEEWAY_SECONDS:
        raise unauthorized("the token has expired")
    for name in ("nbf", "iat"):
        moment = claims.get(name, 0)
        if not _is_number(moment) or now_seconds < moment - LEEWAY_SECONDS:
            raise unauthorized("the token does not count yet")
    return CheckedToken(_credential(claims, rules), expires + LEEWAY_SECONDS)


def _credential(claims: Mapping[str, Any], rules: TokenRules) -> Credential:
    subject, tenant = claims.get("sub"), claims.get(rules.tenant_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_CHARACTERS_MAX:
        raise unauthorized("the token has no subject")
    if not isinstance(tenant, str) or not is_tenant(tenant):
        raise forbidden("the token names no tenant")
    scope = claims.get("scope", "")
    if rules.scope and not (isinstance(scope, str) and rules.scope in scope.split(" ")):
        raise forbidden("the token has not the scope that is needed here")
    return Credential(f"jwt:{rules.issuer} {subject}", tenant)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def _key(member: dict[str, Any], algorithms: frozenset[str]) -> IssuerKey | None:
    """Return a key that can verify one of the algorithms; ``None`` for any other, secret keys included."""
    kty, curve, kid = member.get("kty"), member.get("crv", ""), member.get("kid", "")
    able = {name for name in algorithms if KEY_TYPES[name] == (kty, "" if kty == "RSA" else curve)}
    if "alg" in member:
        able &= {"Ed25519" if member["alg"] == "EdDSA" else member["alg"]}
    if not able or not isinstance(kid, str) or member.get("use", "sig") != "sig" or "d" in member:
        return None
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    public = {name: value for name, value in member.items() if name in ("kty", "crv", "x", "y", "n", "e")}
    try:
        key = _KEY_CLASSES[str(kty)].import_key(public)
    except (JoseError, ValueError, TypeError):
        return None  # one key that we cannot read must not keep the others from counting
    if isinstance(key, RSAKey) and key.raw_value.key_size < RSA_BITS_MIN:
        return None
    return IssuerKey(kid, frozenset(able), key)
