"""Control events (kind 6): what the operators say about a chain, within the chain, and whether it counts.

The statement is a text that names instance, chain, action, serial and the digest of a body; signed, it is a C2SP signed
note. The processor chains control events like any other. Whoever verifies decides which of them count
(:func:`verify_control`); one that does not has no effect, and is shown as rejected. Its bytes are in ``SPEC.md`` (24).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sealstream.schemas.entry import VALUE_BYTES_MAX, is_instance, is_tenant
from sealstream.schemas.errors import ControlInvalid, ControlRefused, NoteInvalid
from sealstream.schemas.event import Control
from sealstream.schemas.note import Note, sign_note, verify_note
from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey

IMPORT_BEGIN: Final = "import.begin"
IMPORT_END: Final = "import.end"
SCHEMA: Final = "schema"

DECLARATIONS: Final = frozenset({IMPORT_BEGIN, IMPORT_END, SCHEMA})
"""The actions that take nothing away from a chain: where there are no operators, they need no signature."""

SERIAL_MAX: Final = 2**63 - 1
BODY_BYTES_MAX: Final = VALUE_BYTES_MAX - 100_000
"""The largest body: the rest of a value is for the statement, its signatures, and the event's other fields."""

_LABEL: Final = "sealstream/control1"
_TEXT: Final = re.compile(
    _LABEL + r"\ninstance (?P<instance>[^\n]*)\ntenant (?P<tenant>[^\n]*)\naction (?P<action>[^\n]*)\n"
    r"serial (?P<serial>0|[1-9][0-9]{0,18})\nbody (?P<body>[0-9a-f]{64})\n"
)
_ACTION: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_ACTION_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Statement:
    """What a control event says, in the form that is signed.

    Arguments:
        instance: The instance that it is about.
        tenant: The chain that it is about, and stands in.
        action: What it says: ``import.begin``.
        serial: From 1 on where it is signed, and larger than those before it in the chain, so that nobody has an old
            one count again; 0 where it is not.
        body_digest: SHA-256 of the body.

    Raises:
        ControlInvalid: A field has no such form.
    """

    instance: str
    tenant: str
    action: str
    serial: int
    body_digest: bytes

    def __post_init__(self) -> None:
        """Refuse what cannot be packed."""
        if not is_instance(self.instance) or not is_tenant(self.tenant):
            raise ControlInvalid(
                f"control names the chain {self.tenant[:80]!r} of {self.instance[:130]!r}, and one is none"
            )
        if len(self.action) > _ACTION_CHARACTERS_MAX or _ACTION.fullmatch(self.action) is None:
            raise ControlInvalid(f"control has the action {self.action[:80]!r}", hint="use words of a-z0-9_ with dots")
        if not 0 <= self.serial <= SERIAL_MAX:
            raise ControlInvalid(f"control has the serial {self.serial}, outside 0 to {SERIAL_MAX}")
        if len(self.body_digest) != 32:
            raise ControlInvalid(f"control has a body digest of {len(self.body_digest)} bytes instead of 32")

    def pack(self) -> bytes:
        """Return the text, with its final newline."""
        return (
            f"{_LABEL}\ninstance {self.instance}\ntenant {self.tenant}\naction {self.action}\n"
            f"serial {self.serial}\nbody {self.body_digest.hex()}\n"
        ).encode()

    @classmethod
    def parse(cls, text: bytes) -> Statement:
        """Return the statement that a text is, the inverse of :meth:`pack`.

        Raises:
            ControlInvalid: The text is none.
        """
        try:
            match = _TEXT.fullmatch(text.decode("ascii"))
        except UnicodeDecodeError:
            match = None
        if match is None:
            raise ControlInvalid(f"control's statement is not the six lines that begin with {_LABEL}")
        return cls(
            match["instance"], match["tenant"], match["action"], int(match["serial"]), bytes.fromhex(match["body"])
        )


@dataclass(frozen=True, slots=True)
class Authority:
    """Whose word counts for an action, as the reader has it from the operators' policy that genesis pins.

    Arguments:
        keys: The operators' keys.
        threshold: How many of them must have signed, from 1 on.
    """

    keys: Collection[VerifierKey]
    threshold: int = 1


class Standing(StrEnum):
    """Why a control event counts."""

    SIGNED = "signed"
    """Enough operators have signed it."""
    DECLARED = "declared"
    """There are no operators, and it takes nothing away: the word of whoever may publish, and no more."""


@dataclass(frozen=True, slots=True)
class VerifiedControl:
    """A control event that counts, as far as it says by itself.

    Arguments:
        statement: What it says.
        body: Its body, whose digest is the statement's.
        standing: Why it counts.
        signers: The keys of those who have signed; empty where it is declared.
    """

    statement: Statement
    body: bytes
    standing: Standing
    signers: tuple[VerifierKey, ...]


def body_digest(body: bytes) -> bytes:
    """Return the digest by which a statement commits to its body: SHA-256, as any tool computes it."""
    return hashlib.sha256(body).digest()


def make_control(  # noqa: D417  # the first four are the statement's
    instance: str, tenant: str, action: str, body: bytes, *, serial: int = 0, signers: Sequence[SignerKey] = ()
) -> Control:
    """Return the control of an event: a statement, signed if there are signers, and its body.

    The same arguments give the same bytes.

    Arguments:
        body: What the statement commits to; at most :data:`BODY_BYTES_MAX` bytes.
        serial: See :class:`Statement`.
        signers: The operators' keys, of the type Ed25519 (``01``).

    Raises:
        ControlInvalid: A field has no such form, the body is too large, a signer's key has another type, or there is a
            serial without signers or the other way round.
    """
    if len(body) > BODY_BYTES_MAX:
        raise ControlInvalid(f"control's body has {len(body)} bytes, more than {BODY_BYTES_MAX}")
    if bool(serial) != bool(signers):
        raise ControlInvalid(
            f"control has the serial {serial} and {len(signers)} signers", hint="0 is for unsigned ones"
        )
    for signer in signers:
        if signer.verifier.type is not KeyType.ED25519:
            raise ControlInvalid(f"key of {signer.verifier.name} cosigns checkpoints; operators sign with type 01")
    text = Statement(instance, tenant, action, serial, body_digest(body)).pack()
    try:
        return Control((sign_note(text, signers) if signers else text).decode(), body)
    except NoteInvalid as error:
        raise ControlInvalid(f"control cannot be signed: {error.message}") from error


def read_statement(control: Control) -> Statement:
    """Return what a control says, whoever says it: nothing is verified, its body is not looked at.

    Raises:
        ControlInvalid: It is neither a statement nor a signed note of one, or is signed without a serial.
    """
    note = control.note.encode()
    if b"\n\n" not in note:
        return Statement.parse(note)
    try:
        text = Note.parse(note).text
    except NoteInvalid as error:
        raise ControlInvalid(f"control's note is none: {error.message}") from error
    statement = Statement.parse(text)
    if not statement.serial:
        raise ControlInvalid("control is signed, and has the serial 0", hint="signed ones count from 1")
    return statement


def verify_control(control: Control, *, instance: str, tenant: str, authority: Authority | None) -> VerifiedControl:
    """Return a control if it counts in a chain.

    The order of serials is the caller's to keep: a signed control counts only if its serial is larger than those of all
    signed ones that counted before it in the chain.

    Arguments:
        control: The control, as it stands in an event.
        instance: The instance of the chain, from its genesis.
        tenant: The chain that it stands in.
        authority: Whose word counts for its action, by the operators' policy whose digest genesis pins; ``None`` where
            genesis says ``operators none``: then only :data:`DECLARATIONS` count, and signatures say nothing.

    Raises:
        ControlInvalid: It is neither a statement nor a signed note of one.
        ControlRefused: It is about another chain, its body is another one, or those whose word counts have not said it.
        Untrusted: A signature in the name of an operator's key does not verify, or none has signed.
    """
    statement = read_statement(control)
    if (statement.instance, statement.tenant) != (instance, tenant):
        raise ControlRefused(
            f"control of {statement.instance} about {statement.tenant} stands in {tenant} of {instance}",
            hint="somebody has put it there a second time",
        )
    if body_digest(control.body) != statement.body_digest:
        raise ControlRefused(f"control {statement.action} in {tenant} commits to another body than the one it has")
    if authority is None:
        if statement.action not in DECLARATIONS:
            raise ControlRefused(
                f"control {statement.action} in {tenant} needs operators, and the instance has none",
                hint="genesis pins the operators' policy",
            )
        return VerifiedControl(statement, control.body, Standing.DECLARED, ())
    return VerifiedControl(statement, control.body, Standing.SIGNED, _signers(control, statement, authority))


def _signers(control: Control, statement: Statement, authority: Authority) -> tuple[VerifierKey, ...]:
    if not statement.serial:
        raise ControlRefused(f"control {statement.action} in {statement.tenant} is not signed")
    verified = verify_note(control.note.encode(), authority.keys).verified
    signers = tuple(one.key for one in verified)
    # One key under two names is one operator: he must not count twice.
    if len({key.public_key for key in signers}) < max(1, authority.threshold):
        raise ControlRefused(
            f"control {statement.action} in {statement.tenant} is signed by {len(signers)} operators, and needs "
            f"{authority.threshold}"
        )
    return signers
