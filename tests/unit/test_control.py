"""Control events: who says what about which chain, and when it counts."""

from __future__ import annotations

import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.control import (
    BODY_BYTES_MAX,
    DECLARATIONS,
    Authority,
    Standing,
    Statement,
    make_control,
    read_statement,
    verify_control,
)
from sealstream.schemas.control_body import ImportBegin, ImportEnd, SchemaText
from sealstream.schemas.errors import (
    ControlInvalid,
    ControlRefused,
    FormatError,
    SignatureInvalid,
    SignatureMissing,
    Untrusted,
)
from sealstream.schemas.event import Actor, AuditEvent, Control, EventKind
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.schemas.source_row import row_packer
from support.notes import signer

INSTANCE, TENANT = "demo.example/audit", "acme"
ANN, BOB = signer("ops.example/ann"), signer("ops.example/bob")
BODY = b"what is said"
DIGEST = bytes(32)

names = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
digests = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 2**63 - 1)
columns_of_a_row = st.tuples(st.text(max_size=300), st.one_of(st.none(), st.text(max_size=300)))
sources = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]), min_size=1
)


def control(
    action: str = "policy", *, tenant: str = TENANT, serial: int = 1, signers: Sequence[SignerKey] = (ANN,)
) -> Control:
    """Return a control that is signed, unless there are no signers."""
    return make_control(INSTANCE, tenant, action, BODY, serial=serial if signers else 0, signers=signers)


def verify(one: Control, *signers: SignerKey, threshold: int = 1, tenant: str = TENANT) -> Standing:
    """Return why a control counts; without signers, there are no operators."""
    authority = Authority([signer.verifier for signer in signers], threshold) if signers else None
    return verify_control(one, instance=INSTANCE, tenant=tenant, authority=authority).standing


class TestWhatCounts:
    """An effect has a control only that the operators have said, of this chain."""

    def test_signed_by_an_operator(self) -> None:
        """What an operator has signed counts, and says who it was."""
        verified = verify_control(
            control(), instance=INSTANCE, tenant=TENANT, authority=Authority([ANN.verifier, BOB.verifier])
        )

        assert (verified.standing, verified.signers, verified.body) == (Standing.SIGNED, (ANN.verifier,), BODY)

    def test_threshold(self) -> None:
        """Where two must say it, one is not enough, and one under two names is one."""
        twice = ANN.renamed("ops.example/ann-again")

        assert verify(control(signers=[ANN, BOB]), ANN, BOB, threshold=2) is Standing.SIGNED
        with pytest.raises(ControlRefused):
            verify(control(signers=[ANN]), ANN, BOB, threshold=2)
        with pytest.raises(ControlRefused):
            verify(control(signers=[ANN, twice]), ANN, twice, threshold=2)

    def test_unsigned_where_there_are_operators(self) -> None:
        """Where there are operators, nothing counts unsigned: not even what takes nothing away."""
        for action in (*DECLARATIONS, "policy"):
            with pytest.raises(ControlRefused, match="not signed"):
                verify(control(action, signers=[]), ANN)

    def test_no_operators(self) -> None:
        """Where there are none, only what takes nothing away counts, as a declaration; a signature adds nothing."""
        for action in DECLARATIONS:
            assert verify(control(action, signers=[])) is Standing.DECLARED
            assert verify(control(action)) is Standing.DECLARED
        for signers in ([], [ANN]):
            with pytest.raises(ControlRefused, match="operators"):
                verify(control("purge", signers=signers))

    def test_another_chain(self) -> None:
        """A control that was copied into another chain has no effect there."""
        with pytest.raises(ControlRefused, match="globex"):
            verify(control(tenant="globex"), ANN)
        with pytest.raises(ControlRefused):
            verify_control(control(), instance="other.example", tenant=TENANT, authority=None)

    def test_another_body(self) -> None:
        """A control with another body than the one that was signed has no effect."""
        with pytest.raises(ControlRefused, match="another body"):
            verify(Control(control().note, BODY + b"!"), ANN)

    def test_stranger(self) -> None:
        """The signature of a stranger counts for nobody, and a forged one in an operator's name is refused."""
        with pytest.raises(SignatureMissing):
            verify(control(signers=[BOB]), ANN)
        with pytest.raises(SignatureInvalid):
            verify(Control(control(serial=1).note.replace("serial 1", "serial 2"), BODY), ANN)


class TestForm:
    """One form each, and typed errors for all else."""

    @given(names, st.sampled_from(["a", "import.begin", "x.y_1.z"]), numbers, digests)
    def test_statement_round_trip(self, tenant: str, action: str, serial: int, digest: bytes) -> None:
        """A statement parses back to itself."""
        made = Statement(INSTANCE, tenant, action, serial, digest)
        assert Statement.parse(made.pack()) == made

    @given(st.integers(0, 400), st.integers(0, 255), st.booleans())
    def test_every_change_shows(self, place: int, byte: int, signed: bool) -> None:
        """Whatever byte of a note is changed: it does not count any more, or means what it meant."""
        one = control("schema", signers=[ANN] if signed else [])
        note = bytearray(one.note.encode())
        note[place % len(note)] = byte
        try:
            changed = Control(note.decode(), one.body)
        except UnicodeDecodeError:
            return
        try:
            verify(changed, *([ANN] if signed else []))
        except (Untrusted, FormatError):
            return
        # Unsigned, an action that is one letter off is another declaration, or none; all else is bound to the chain.
        assert read_statement(changed) == read_statement(one)

    def test_statement_refused(self) -> None:
        """What cannot be packed is refused, with what it is."""
        for fields in (
            ("NO", TENANT, "policy", 1, DIGEST),
            (INSTANCE, "!partition-0", "policy", 1, DIGEST),
            (INSTANCE, TENANT, "Policy", 1, DIGEST),
            (INSTANCE, TENANT, "a" * 65, 1, DIGEST),
            (INSTANCE, TENANT, "policy", 2**63, DIGEST),
            (INSTANCE, TENANT, "policy", -1, DIGEST),
            (INSTANCE, TENANT, "policy", 1, DIGEST[1:]),
        ):
            with pytest.raises(ControlInvalid):
                Statement(*fields)
        for text in (b"", b"sealstream/control1\n", control(signers=[]).note.encode()[:-1], "é".encode()):
            with pytest.raises(ControlInvalid):
                Statement.parse(text)

    def test_made_only_whole(self) -> None:
        """A serial goes with a signature, operators sign with keys of notes, and a body has a largest size."""
        with pytest.raises(ControlInvalid, match="serial"):
            make_control(INSTANCE, TENANT, "policy", BODY, serial=1)
        with pytest.raises(ControlInvalid, match="serial"):
            make_control(INSTANCE, TENANT, "policy", BODY, signers=[ANN])
        with pytest.raises(ControlInvalid, match="cosigns"):
            make_control(INSTANCE, TENANT, "policy", BODY, serial=1, signers=[signer("w", KeyType.COSIGNATURE)])
        with pytest.raises(ControlInvalid, match="bytes"):
            make_control(INSTANCE, TENANT, "policy", bytes(BODY_BYTES_MAX + 1))

    def test_signed_without_serial(self) -> None:
        """A signed note with the serial 0 is none: nothing would keep an old one from counting again."""
        note = control(serial=1).note.replace("serial 1", "serial 0")
        with pytest.raises(ControlInvalid, match="serial 0"):
            read_statement(Control(note, BODY))
        with pytest.raises(ControlInvalid, match="note is none"):
            read_statement(Control(note[:-1], BODY))

    def test_stands_in_an_event(self) -> None:
        """A control is one that the event model takes."""
        event = AuditEvent(
            tenant=TENANT, actor=Actor("service", "import"), action="policy", kind=EventKind.CONTROL, control=control()
        )
        event.check()
        assert event.control == control()


class TestBodies:
    """What an action's statement commits to."""

    @given(names, sources, digests)
    def test_begin_round_trip(self, job: str, source: str, digest: bytes) -> None:
        """The beginning of an import parses back to itself."""
        assert ImportBegin.parse(ImportBegin(job, source, digest).pack()) == ImportBegin(job, source, digest)

    @given(names, sources, numbers, digests, numbers)
    def test_end_round_trip(self, job: str, source: str, count: int, root: bytes, quarantined: int) -> None:
        """The end of an import parses back to itself."""
        made = ImportEnd(job, source, count, root, quarantined)
        assert ImportEnd.parse(made.pack()) == made

    @given(st.one_of(st.none(), st.integers(0, 2**31 - 1)), st.sampled_from(["", "\n", " \n\n"]))
    def test_schema_round_trip(self, registry_id: int | None, blanks: str) -> None:
        """A schema's text comes back as it was, blanks included."""
        made = SchemaText(
            '{"type": "record", "name": "A", "fields": [{"name": "a", "type": "long"}]}' + blanks, registry_id
        )
        assert SchemaText.parse(made.pack()) == made

    @pytest.mark.parametrize("body", [b"", b"job a\n", b"\xff", b"job a\nsource b\nmapping 00\n", b"fingerprint \n"])
    def test_refused(self, body: bytes) -> None:
        """Other bytes are none of them."""
        for kind in (ImportBegin, ImportEnd, SchemaText):
            with pytest.raises(ControlInvalid):
                kind.parse(body)

    def test_fields_refused(self) -> None:
        """A field that has no form, or would be another line, is refused."""
        for job, source in (("", "s"), ("a" * 51, "s"), ("a:b", "s"), ("a", ""), ("a", "b\nc"), ("a", "\ud800")):
            with pytest.raises(ControlInvalid):
                ImportBegin(job, source, DIGEST)
        with pytest.raises(ControlInvalid):
            ImportBegin("a", "b", DIGEST[1:])
        with pytest.raises(ControlInvalid):
            ImportEnd("a", "b", -1, DIGEST)

    @pytest.mark.parametrize("text", ["{", '"null"', '{"type": "record"}', "[" * 100_000, '"\ud800"'])
    def test_no_schema(self, text: str) -> None:
        """What is no schema, or an unsafe one, does not enter a chain as one."""
        with pytest.raises(ControlInvalid):
            SchemaText(text)

    def test_wrong_fingerprint(self) -> None:
        """A text that is not the one of its fingerprint is refused."""
        body = SchemaText('"string"').pack()
        with pytest.raises(ControlInvalid, match="fingerprint"):
            SchemaText.parse(body.replace(b'"string"', b'"bytes"'))


class TestRows:
    """The bytes of a row say exactly what is in it."""

    @given(st.lists(columns_of_a_row, max_size=5), st.data())
    def test_injective(self, columns: list[tuple[str, str | None]], data: st.DataObject) -> None:
        """Two rows have the same bytes only if they have the same names and texts."""
        others = data.draw(st.lists(columns_of_a_row, max_size=5))

        def packed(row: list[tuple[str, str | None]]) -> bytes:
            return row_packer([name for name, _ in row])([text for _, text in row])

        assert (packed(columns) == packed(others)) == (columns == others)

    def test_other_width(self) -> None:
        """A row with more or fewer columns than the source has is refused."""
        with pytest.raises(FormatError):
            row_packer(["a"])(["1", "2"])
