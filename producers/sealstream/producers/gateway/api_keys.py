"""API keys: what one looks like, and the file of those that a gateway knows.

A key is ``sealstream_<id>_<secret>``: the id names it, the secret is 32 random bytes. The file holds the SHA-256 of the
secret and no more; that is enough, because nobody can try 2**256 secrets, and cheap, because it is asked on each
request. Who reads the file learns no key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, cast

from sealstream.producers.gateway.credentials import Credential
from sealstream.schemas.entry import is_tenant
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.event import TEXT_CHARACTERS_MAX

PREFIX: Final = b"sealstream_"
KEYS_MAX: Final = 10_000
ACTIONS_MAX: Final = 100
VERSION: Final = 1
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_NAME_CHARACTERS_MAX: Final = 200
_NO_HASH: Final = bytes(32)
_MEMBERS: Final = frozenset(
    {"id", "name", "tenant", "actions", "events_per_second", "secret_sha256", "created", "expires", "revoked"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key.

    Arguments:
        id: 16 hexadecimal digits.
        name: What its holder is called, for people.
        tenant: The tenant whose trail it may write to.
        actions: What the actions that it may log begin with; empty for all of them.
        events_per_second: How many events a second; ``None`` for what the gateway's setting says.
        secret_sha256: The digest of its secret.
        created: When it was made.
        expires: From when on it is not taken any more, if that is known.
        revoked: When it was revoked, if it was.
    """

    id: str
    name: str
    tenant: str
    secret_sha256: bytes
    created: datetime
    actions: tuple[str, ...] = ()
    events_per_second: float | None = None
    expires: datetime | None = None
    revoked: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Return whether it is taken at that time."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def credential(self) -> Credential:
        """Return what it allows."""
        return Credential(f"key:{self.id}", self.tenant, self.actions, self.events_per_second)


def new_key(
    *,
    name: str,
    tenant: str,
    actions: tuple[str, ...] = (),
    events_per_second: float | None = None,
    expires: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key, and return what is known of it, and the key itself, which is kept nowhere.

    Raises:
        ConfigError: An argument is none that a key can have.
    """
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=")
    key = ApiKey(
        id=secrets.token_hex(_ID_BYTES),
        name=name,
        tenant=tenant,
        secret_sha256=hashlib.sha256(secret).digest(),
        created=datetime.now(UTC).replace(microsecond=0),
        actions=actions,
        events_per_second=events_per_second,
        expires=expires,
    )
    _check(key)
    return key, f"{PREFIX.decode()}{key.id}_{secret.decode()}"


class ApiKeys:
    """The keys that a gateway knows.

    Arguments:
        keys: The keys, each with an id of its own.

    Raises:
        ConfigError: Two have the same id, there are too many, or one is none.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        found = list(keys)
        self._keys = {key.id: key for key in found}
        self._credentials = {key.id.encode(): (key, key.credential()) for key in found}
        if len(self._keys) != len(found):
            raise ConfigError("two API keys have the same id", hint="remove one from the file")
        if len(found) > KEYS_MAX:
            raise ConfigError(f"there are more than {KEYS_MAX} API keys", hint="let tokens of an issuer do it")
        for key in found:
            _check(key)

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def credential(self, token: bytes, now: datetime) -> Credential | None:
        """Return what a key allows, if it is known and good; it takes the same time whatever is wrong with it."""
        key_id, _, secret = token.removeprefix(PREFIX).partition(b"_")
        known = self._credentials.get(key_id)
        expected = _NO_HASH if known is None else known[0].secret_sha256
        is_same = hmac.compare_digest(hashlib.sha256(secret).digest(), expected)
        if known is None or not is_same or not known[0].is_good(now):
            return None
        return known[1]

    def added(self, key: ApiKey) -> ApiKeys:
        """Return these keys and one more.

        Raises:
            ConfigError: There are too many.
        """
        return ApiKeys([*self._keys.values(), key])

    def revoked(self, key_id: str, now: datetime) -> ApiKeys:
        """Return these keys with one of them revoked; it stays, so that its id is never another's.

        Raises:
            ConfigError: There is no such key.
        """
        if key_id not in self._keys:
            raise ConfigError(f"there is no key {key_id}", hint="sealstream gateway-keys list FILE")
        key = self._keys[key_id]
        revoked = key if key.revoked is not None else replace(key, revoked=now.replace(microsecond=0))
        return ApiKeys((self._keys | {key_id: revoked}).values())

    def format(self) -> bytes:
        """Return the file's content."""
        document = {"version": VERSION, "keys": [_to_json(key) for key in self._keys.values()]}
        return f"{json.dumps(document, indent=1, ensure_ascii=False)}\n".encode()

    @staticmethod
    def parse(data: bytes) -> ApiKeys:
        """Return the keys that a file's content names.

        Raises:
            ConfigError: It is no such file; says where.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise ConfigError("the file of API keys is no JSON", hint="sealstream gateway-keys new makes it") from None
        fields = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
        if fields.get("version") != VERSION or not isinstance(fields.get("keys"), list) or len(fields) != 2:
            raise ConfigError("the file of API keys has another version", hint="sealstream gateway-keys new makes it")
        return ApiKeys(_from_json(number, member) for number, member in enumerate(fields["keys"]))


def _to_json(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "actions": list(key.actions),
        "events_per_second": key.events_per_second,
        "secret_sha256": key.secret_sha256.hex(),
        "created": key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "revoked": None if key.revoked is None else key.revoked.isoformat(),
    }


def _from_json(number: int, member: Any) -> ApiKey:
    if not isinstance(member, dict) or cast("dict[str, Any]", member).keys() != _MEMBERS:
        raise ConfigError(f"API key {number} has not the members of one", hint="sealstream gateway-keys new makes it")
    fields = cast("dict[str, Any]", member)
    try:
        key = ApiKey(
            id=fields["id"],
            name=fields["name"],
            tenant=fields["tenant"],
            actions=_texts(fields["actions"]),
            events_per_second=fields["events_per_second"],
            secret_sha256=bytes.fromhex(fields["secret_sha256"]),
            created=datetime.fromisoformat(fields["created"]),
            expires=None if fields["expires"] is None else datetime.fromisoformat(fields["expires"]),
            revoked=None if fields["revoked"] is None else datetime.fromisoformat(fields["revoked"]),
        )
        _check(key)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"API key {number}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"API key {number}: {error.message}", hint=error.hint) from None
    return key


def _texts(value: object) -> tuple[str, ...]:
    """Return the members of a list; one text alone would be a list of its letters."""
    if not isinstance(value, list):
        raise TypeError("the actions are no list")
    return tuple(cast("list[str]", value))


def _check(key: ApiKey) -> None:
    """Refuse what cannot be a key.

    Raises:
        ConfigError: Says what is wrong.
    """
    if not all(_is_text(text) for text in (key.id, key.name, key.tenant)):
        raise ConfigError("id, name and tenant are not all texts")
    if len(key.id) != 2 * _ID_BYTES or set(key.id) - set("0123456789abcdef"):
        raise ConfigError("the id is not 16 hexadecimal digits")
    if len(key.name) > _NAME_CHARACTERS_MAX:
        raise ConfigError(f"the name has more than {_NAME_CHARACTERS_MAX} characters")
    if not is_tenant(key.tenant):
        raise ConfigError("the tenant is not valid", hint="1 to 64 of A-Za-z0-9_.-, beginning with a letter or digit")
    if len(key.actions) > ACTIONS_MAX or not all(_is_prefix(action) for action in key.actions):
        raise ConfigError(f"the actions are not at most {ACTIONS_MAX} texts", hint="such as document.")
    rate = key.events_per_second
    if rate is not None and (isinstance(rate, bool) or not 0 < rate <= 1_000_000):
        raise ConfigError("events_per_second is not above 0 and at most 1000000")
    if len(key.secret_sha256) != hashlib.sha256().digest_size:
        raise ConfigError("secret_sha256 is not 64 hexadecimal digits")
    for moment in (key.created, key.expires, key.revoked):
        if moment is not None and moment.utcoffset() is None:
            raise ConfigError("a time has no zone", hint="such as 2026-01-31T12:00:00+00:00")


def _is_text(value: object) -> bool:
    """Return whether a value is text: in a file it may be anything."""
    return isinstance(value, str)


def _is_prefix(action: object) -> bool:
    return isinstance(action, str) and 0 < len(action) <= TEXT_CHARACTERS_MAX
