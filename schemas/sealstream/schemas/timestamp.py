"""Timestamps by authorities outside (RFC 3161): whether one shows that something was there at a time, and when.

Pure, and without the network: who asks an authority is the notary. The package ``rfc3161-client`` is imported only
where a timestamp is verified; it is part of the extras ``notary`` and ``cli``.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from sealstream.schemas.errors import ConfigError, TimestampInvalid, TimestampUntrusted

if TYPE_CHECKING:
    from rfc3161_client import Accuracy, TimeStampResponse

TIMESTAMP_BYTES_MAX: Final = 65_536
"""The largest response that is read; with the certificates of its authority it has some 6,000 bytes."""

ROOTS_BYTES_MAX: Final = 1_000_000

_MILLISECONDS: Final = 1_000
_MICROSECONDS: Final = 1_000_000
_GRANTED: Final = 0
_DIGESTS: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_CERTIFICATE_ERRORS: Final = (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)
_CERTIFICATES: Final = 0xA0  # [0] IMPLICIT in SignedData


@dataclass(frozen=True, slots=True)
class Timestamp:
    """What a trusted authority says of some bytes: that they were there at a time.

    Arguments:
        time_seconds: The time by the authority's clock, in seconds since the Unix epoch.
        accuracy_seconds: How far that clock may be off, as the authority says; 0 if it does not say.
        authority: The name in the certificate that signed (RFC 4514).
    """

    time_seconds: float
    accuracy_seconds: float
    authority: str

    @property
    def existed_by_seconds(self) -> int:
        """The first full second by which, at the latest, the bytes were there."""
        return math.ceil(self.time_seconds + self.accuracy_seconds)


def verify_timestamp(token: bytes, data: bytes, roots_pem: bytes | str, *, nonce: int | None = None) -> Timestamp:
    """Return what a timestamp says of some bytes, if it is to be believed.

    Certificates are judged at the time that the timestamp states, and not at today's: an authority's certificate ends
    after some years, and what it has stamped until then stays. So a timestamp is refused if its authority was not yet
    or no longer valid when it stamped, and is not refused because it ended since. This believes the authority in one
    thing more than its clock: that nobody stole its key, be it after the certificate's end, since he could write any
    time that the certificate covers. No revocation is looked up, as nothing is that takes a network. Who has to fear
    such a theft takes the authority out of his roots.

    Arguments:
        token: The response of RFC 3161 (DER), as the authority gave it, its certificates included.
        data: What was stamped.
        roots_pem: The certificates (PEM) of the authorities that the reader trusts: self-signed ones, and such between
            them and the signer that are not in the response.
        nonce: The number that was asked with; ``None`` where a kept timestamp is verified.

    Raises:
        TimestampInvalid: It does not parse, the authority has refused, or it is one over other bytes, or an answer to
            somebody else.
        TimestampUntrusted: Its signature does not verify, or does not lead to one of the roots through certificates
            that were valid at the time that it states and that are there for making timestamps.
        ConfigError: The roots are no certificates, or ``rfc3161-client`` is not installed.
    """
    roots = _roots(roots_pem)
    if len(token) > TIMESTAMP_BYTES_MAX:
        raise TimestampInvalid(f"timestamp has {len(token)} bytes; at most {TIMESTAMP_BYTES_MAX} are read")
    try:
        import rfc3161_client  # noqa: PLC0415  # of an extra: an application's SDK has none
    except ImportError as error:
        raise ConfigError(
            "rfc3161-client is not installed: timestamps cannot be verified", hint="pip install 'sealstream[cli]'"
        ) from error
    try:
        response = rfc3161_client.decode_timestamp_response(_with_sorted_certificates(token))
        status = response.status
    except (ValueError, TypeError) as error:
        raise TimestampInvalid("timestamp is no response of RFC 3161") from error
    if status != _GRANTED:
        raise TimestampInvalid(f"the authority did not grant the timestamp (status {status})")
    try:
        return _verify(response, data, roots, nonce)
    except rfc3161_client.VerificationError as error:
        raise TimestampUntrusted(
            f"timestamp is not by an authority that is trusted and was valid when it stamped: {str(error)[:200]}",
            hint="check which roots are given, and whether the authority was valid at that time",
        ) from error
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, *_CERTIFICATE_ERRORS) as error:
        raise TimestampInvalid(f"timestamp is malformed: {str(error)[:200]}") from error


def _verify(response: TimeStampResponse, data: bytes, roots: list[x509.Certificate], nonce: int | None) -> Timestamp:
    """Verify what is signed, and the signature.

    Raises:
        VerificationError: As the library says it.
        TimestampInvalid: It is one over other bytes, or an answer to somebody else.
        ValueError: A part of it does not parse.
    """
    import rfc3161_client  # noqa: PLC0415  # as above

    info = response.tst_info
    if nonce is not None and info.nonce != nonce:
        raise TimestampInvalid("timestamp answers another question: its nonce is not the one asked with")
    imprint = info.message_imprint
    name = _DIGESTS.get(imprint.hash_algorithm.dotted_string)
    if name is None:
        raise TimestampInvalid(f"timestamp is over a digest that is not read: {imprint.hash_algorithm.dotted_string}")
    digest = hashlib.new(name, data).digest()
    if imprint.message != digest:
        raise TimestampInvalid(
            "timestamp is one over other bytes", hint="it belongs to another checkpoint, or this one was changed"
        )
    rfc3161_client.VerifierBuilder(roots=roots).build().verify(response, digest)
    accuracy = cast("Accuracy | None", info.accuracy)  # the library's annotation leaves out that it may be missing
    accuracy_seconds = 0.0
    if accuracy is not None:
        accuracy_seconds = (
            accuracy.seconds + (accuracy.millis or 0) / _MILLISECONDS + (accuracy.micros or 0) / _MICROSECONDS
        )
    return Timestamp(info.gen_time.timestamp(), accuracy_seconds, _authority(response))


def _authority(response: TimeStampResponse) -> str:
    """Return the name of the certificate that signed; the response was verified, so there is one."""
    (signer,) = response.signed_data.signer_infos
    for data in response.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(data)
        if (certificate.issuer, certificate.serial_number) == (signer.issuer, signer.serial_number):
            return certificate.subject.rfc4514_string()
    raise ValueError("there is no certificate of its signer in it")


def _with_sorted_certificates(token: bytes) -> bytes:
    """Return a response with the certificates in it in DER's order; what is none stays as it is.

    RFC 5652 lets them stand in any order, and OpenSSL writes the signer's first; rfc3161-client refuses what is not
    sorted. They are not part of what is signed, and nothing changes its size.
    """
    try:
        _, response, _ = _element(token, 0)
        _, status_begin, status_end = _element(token, response)
        del status_begin
        _, content, _ = _element(token, status_end)  # ContentInfo
        _, _, kind_end = _element(token, content)
        _, explicit, _ = _element(token, kind_end)
        _, place, _ = _element(token, explicit)  # SignedData
        for _ in range(3):  # version, digestAlgorithms, encapContentInfo
            _, _, place = _element(token, place)
        tag, begin, end = _element(token, place)
        if tag != _CERTIFICATES:
            return token
        found: list[bytes] = []
        place = begin
        while place < end:
            _, _, after = _element(token, place)
            found.append(token[place:after])
            place = after
    except IndexError:
        return token
    return token[:begin] + b"".join(sorted(found)) + token[place:]


def _element(data: bytes, place: int) -> tuple[int, int, int]:
    """Return tag, begin and end of the content of the DER element at a place.

    Raises:
        IndexError: It is cut, or has a tag or a length of a form that does not occur in a response.
    """
    tag, length = data[place], data[place + 1]
    begin = place + 2
    if length & 0x80:
        count = length & 0x7F
        if not 0 < count <= 4:
            raise IndexError(place)
        length, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    if begin + length > len(data):
        raise IndexError(place)
    return tag, begin, begin + length


def _roots(roots_pem: bytes | str) -> list[x509.Certificate]:
    data = roots_pem.encode() if isinstance(roots_pem, str) else roots_pem
    if not data.strip():
        raise ConfigError("no roots are given that a timestamp may lead to", hint="give the authority's root (PEM)")
    if len(data) > ROOTS_BYTES_MAX:
        raise ConfigError(f"the roots of timestamps have {len(data)} bytes; at most {ROOTS_BYTES_MAX} are read")
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigError(f"the roots of timestamps are no certificates in PEM: {str(error)[:200]}") from error
    return list(dict.fromkeys(found))
