"""From a request's ``Authorization`` to what it allows: an API key, or a token of the issuer."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final

from sealstream.producers.gateway.api_keys import PREFIX
from sealstream.producers.gateway.credentials import Credential, bearer_token
from sealstream.producers.gateway.issuer_keys import IssuerKeys
from sealstream.producers.gateway.key_file import WatchedKeys
from sealstream.producers.gateway.problems import unauthorized
from sealstream.producers.gateway.tokens import CheckedToken, KeyUnknown, TokenRules, check_token

REMEMBERED_MAX: Final = 10_000
REMEMBERED_SECONDS: Final = 60.0
"""How long a token that was checked is believed without checking its signature again."""


class Authentication:
    """Knows credentials.

    Arguments:
        keys: The API keys, if there are any.
        issuer: The issuer's keys, if its tokens count.
        rules: Which of its tokens count.
    """

    def __init__(self, keys: WatchedKeys | None, issuer: IssuerKeys | None, rules: TokenRules | None) -> None:
        self._keys = keys
        self._issuer = issuer
        self._rules = rules
        self._remembered: OrderedDict[bytes, tuple[CheckedToken, float]] = OrderedDict()

    async def credential(self, header: bytes | None) -> Credential:
        """Return what a request's ``Authorization`` allows.

        Raises:
            Problem: It is missing, unknown, or does not count now.
        """
        if header is None:
            raise unauthorized("the request has no Authorization", error="")
        token = bearer_token(header)
        if token is None:
            raise unauthorized("Authorization is not Bearer and a token", error="invalid_request")
        if self._keys is not None and token.startswith(PREFIX):
            credential = self._keys.keys().credential(token, datetime.now(UTC))
            if credential is None:
                raise unauthorized("the API key is unknown, expired or revoked")
            return credential
        if self._issuer is None or self._rules is None:
            raise unauthorized("the API key is unknown, expired or revoked")
        return await self._of_token(token, self._issuer, self._rules)

    @property
    def problem(self) -> str:
        """What keeps it from knowing all credentials; empty if nothing does."""
        return "" if self._keys is None else self._keys.problem

    async def _of_token(self, token: bytes, issuer: IssuerKeys, rules: TokenRules) -> Credential:
        digest, now_seconds = hashlib.sha256(token).digest(), time.time()
        checked, until_seconds = self._remembered.get(digest, (None, 0.0))
        if checked is not None and now_seconds < until_seconds:
            return checked.credential
        keys = await issuer.keys()
        try:
            checked = check_token(token, keys, rules, now_seconds=now_seconds)
        except KeyUnknown:
            checked = await self._with_newer_keys(token, issuer, rules, now_seconds)
        until_seconds = min(checked.expires_seconds, now_seconds + REMEMBERED_SECONDS)
        self._remembered[digest] = (checked, until_seconds)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return checked.credential

    @staticmethod
    async def _with_newer_keys(token: bytes, issuer: IssuerKeys, rules: TokenRules, now_seconds: float) -> CheckedToken:
        try:
            return check_token(token, await issuer.newer_keys(), rules, now_seconds=now_seconds)
        except KeyUnknown:
            raise unauthorized("the token is signed by a key that the issuer does not have") from None
