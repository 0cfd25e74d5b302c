"""An issuer of tokens (OpenID Connect) for tests: its keys, its tokens, and a server that publishes the keys."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sealstream.producers.gateway.tokens import TokenRules

ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "audit-gateway"
RULES: Final = TokenRules(
    issuer=ISSUER, audience=AUDIENCE, algorithms=frozenset({"RS256", "ES256"}), tenant_claim="tenant"
)


class Issuer:
    """Has an RSA key and one of an elliptic curve, and signs tokens."""

    def __init__(self) -> None:
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
        self.ec = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig", "alg": "ES256"})

    def key_set(self) -> bytes:
        """Return the public keys as a JWK set."""
        return json.dumps({"keys": [key.as_dict(private=False) for key in (self.rsa, self.ec)]}).encode()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a token that counts, with some changed; ``None`` leaves one out."""
        now = int(time.time())
        plain = {"iss": ISSUER, "aud": AUDIENCE, "sub": "svc-1", "tenant": "acme", "iat": now, "exp": now + 300}
        return {name: value for name, value in (plain | changed).items() if value is not None}

    def token(self, *, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changed: Any) -> str:
        """Return a token."""
        key = self.ec if algorithm.startswith("ES") else self.rsa
        fields = {"alg": algorithm, "kid": key.kid} | (header or {})
        named = {name: value for name, value in fields.items() if value is not None}
        return jwt.encode(named, self.claims(**changed), key, [algorithm])

    def unsigned(self, **changed: Any) -> str:
        """Return a token of the algorithm ``none``, which anybody can make."""
        return f"{_segment({'alg': 'none'})}.{_segment(self.claims(**changed))}."

    def signed_with_the_public_key(self) -> str:
        """Return a token whose HMAC has the public key as its secret: the old confusion of algorithms."""
        signed = f"{_segment({'alg': 'HS256', 'kid': self.rsa.kid})}.{_segment(self.claims())}"
        return f"{signed}.{_encoded(hmac.digest(self.rsa.as_pem(private=False), signed.encode(), 'sha256'))}"

    def critical(self) -> str:
        """Return a signed token that demands to be understood in a way that nobody knows (RFC 7515 section 4.1.11)."""
        header = {"alg": "RS256", "kid": self.rsa.kid, "crit": ["unheard-of"], "unheard-of": True}
        signed = f"{_segment(header)}.{_segment(self.claims())}"
        assert self.rsa.private_key is not None
        return f"{signed}.{_encoded(self.rsa.private_key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def _segment(value: dict[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def serve_keys(issuer: Issuer) -> Generator[str]:
    """Publish an issuer's keys on loopback, and return where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = issuer.key_set()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/keys"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
