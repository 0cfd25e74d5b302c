"""A timestamp authority (RFC 3161) of the tests' own: OpenSSL's ``ts`` command behind a web server on the loopback."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEAR: Final = timedelta(days=365)
_CONFIG: Final = """
[tsa]
default_tsa = one
[one]
serial = {directory}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500
ordering = no
tsa_name = yes
ess_cert_id_chain = no
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority whose key and certificates lie in a directory.

    Arguments:
        directory: Where they lie.
        roots_pem: The certificate that readers trust.
        name: The name in the certificate that signs.
    """

    directory: Path
    roots_pem: bytes
    name: str

    def reply(self, query: bytes) -> bytes:
        """Return the authority's response (DER) to a query."""
        with tempfile.TemporaryDirectory(dir=self.directory) as folder:
            asked, answered = Path(folder, "query"), Path(folder, "reply")
            asked.write_bytes(query)
            command = ["openssl", "ts", "-reply", "-queryfile", str(asked), "-out", str(answered)]
            command += ["-config", str(self.directory / "config"), "-section", "one"]
            command += ["-signer", str(self.directory / "tsa.pem"), "-inkey", str(self.directory / "tsa.key")]
            command += ["-chain", str(self.directory / "root.pem")]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            return answered.read_bytes()

    def stamp(self, data: bytes) -> bytes:
        """Return the authority's response (DER) over some bytes, as a client of it asks for one."""
        command = ["openssl", "ts", "-query", "-sha256", "-cert"]
        query = subprocess.run(command, input=data, check=True, capture_output=True, timeout=60).stdout
        return self.reply(query)


def make_authority(
    directory: Path,
    name: str = "Test TSA",
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    time_stamping: bool = True,
) -> Authority:
    """Make an authority: a root of its own, and a certificate under it. Without OpenSSL's command the test is skipped.

    Arguments:
        directory: An empty directory for it, which is made.
        name: Its name.
        not_before: From when the certificate that signs is valid; for a year by default.
        not_after: Until when; for another year by default. The root is valid for ten years around now.
        time_stamping: Whether the certificate is one for timestamps.
    """
    if shutil.which("openssl") is None:
        pytest.skip("the timestamp authority of the tests is OpenSSL's `ts` command, and there is none")
    directory.mkdir(parents=True)
    now = datetime.now(UTC)
    root_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} Root")])
    root = (
        _certificate(root_name, root_name, root_key.public_key(), now - 5 * _YEAR, now + 5 * _YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    usage = ExtendedKeyUsageOID.TIME_STAMPING if time_stamping else ExtendedKeyUsageOID.CODE_SIGNING
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = (
        _certificate(subject, root_name, key.public_key(), not_before or now - _YEAR, not_after or now + _YEAR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "root.pem").write_bytes(root.public_bytes(pem))
    (directory / "tsa.pem").write_bytes(signer.public_bytes(pem))
    (directory / "tsa.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (directory / "serial").write_text("01\n")
    (directory / "config").write_text(_CONFIG.format(directory=directory))
    return Authority(directory, root.public_bytes(pem), subject.rfc4514_string())


def expired_authority(directory: Path) -> Authority:
    """Make an authority whose certificate ended yesterday: what it stamps now is to be refused."""
    now = datetime.now(UTC)
    return make_authority(directory, "Expired TSA", not_before=now - _YEAR, not_after=now - timedelta(days=1))


def short_lived_authority(directory: Path, seconds: float) -> Authority:
    """Make an authority whose certificate ends soon: what it has stamped before holds after that."""
    now = datetime.now(UTC)
    return make_authority(directory, "Short TSA", not_before=now - _YEAR, not_after=now + timedelta(seconds=seconds))


Reply = Callable[[bytes], bytes]


class TimestampServer:
    """An authority behind a web server.

    Arguments:
        url: Where it is.
        reply: Makes a response of a query; tests put in others, that lie, fail or dawdle.
    """

    def __init__(self, url: str, reply: Reply) -> None:
        self.url = url
        self.reply = reply
        self.status = 200
        self.queries: list[bytes] = []


@contextmanager
def timestamp_server(authority: Authority) -> Generator[TimestampServer]:
    """Run an authority's web server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            state.queries.append(query)
            body = state.reply(query)
            self.send_response(state.status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Say nothing: the tests look at answers."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = TimestampServer(f"http://127.0.0.1:{server.server_port}/tsa", authority.reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
