"""The parts of an event's Avro body that the fields of a mapping write, made once for all rows.

What is the same of every row (a constant, an absent field, the end of a list) is put before the next part beforehand,
and so costs nothing. Encodings: Avro 1.12 specification, binary encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from sealstream.producers.importer.mapping import Party
from sealstream.producers.importer.template import Field, Names, Value, Values
from sealstream.schemas.event import Outcome
from sealstream.schemas.event_body import long

Write: TypeAlias = Callable[[Values], bytes]
"""Returns the bytes of a part; raises LookupError if the row's is not ordinary."""

TEXT_BYTES: Final = 1_024
"""Texts from here on are not ordinary, but for those of the metadata."""
LENGTHS: Final = tuple(long(size) for size in range(TEXT_BYTES))

_NULL: Final = b"\x00"
_PRESENT: Final = b"\x02"
_END_OF_BLOCKS: Final = b"\x00"
_OUTCOMES: Final = {outcome.value: long(number) for number, outcome in enumerate(Outcome)}


class BodyParts:
    """Functions that write parts of a body, one behind the other.

    Arguments:
        names: The names that the mapping uses.

    Raises:
        EventInvalid, LookupError: From its methods: a field is the same of every row, and not ordinary.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._before = b""
        self._writes: list[Write] = []

    def writes(self) -> list[Write]:
        """Return the functions."""
        if self._before:
            before = self._take()
            self._writes.append(lambda _: before)
        return self._writes

    def add(self, data: bytes) -> None:
        """Add bytes that are the same of every row."""
        self._before += data

    def add_text(self, field: Field) -> None:
        """Add a text that is neither null nor empty."""
        if is_constant(field):
            self.add(_required(field.compile("", Names())(())))
            return
        text_of, before = field.compile("", self._names), self._take()
        begins = {size: before + LENGTHS[size] for size in range(1, TEXT_BYTES)}

        def write(values: Values) -> bytes:
            data = _present(text_of(values)).encode()
            return begins[len(data)] + data

        self._writes.append(write)

    def add_optional(self, field: Field | None) -> None:
        """Add a text that may be null, and may be empty; without a field it is null."""
        if field is None or is_constant(field):
            text = None if field is None else field.compile("", Names())(())
            data = b"" if text is None else text.encode()
            self.add(_NULL if text is None else _PRESENT + LENGTHS[len(data)] + data)
            return
        text_of, before = field.compile("", self._names), self._take()
        null, begins = before + _NULL, [before + _PRESENT + length for length in LENGTHS]

        def write(values: Values) -> bytes:
            text = text_of(values)
            if text is None:
                return null
            data = text.encode()
            return begins[len(data)] + data

        self._writes.append(write)

    def add_party(self, party: Party) -> None:
        """Add an actor or a target, whose type and id are neither null nor empty."""
        self.add_text(party.type)
        self.add_text(party.id)
        self.add_optional(party.name)

    def add_targets(self, targets: tuple[Party, ...]) -> None:
        """Add the list of those targets whose id is not null."""
        if not targets:
            self.add(_END_OF_BLOCKS)
            return
        before = self._take()
        made: list[tuple[Value, list[Write]]] = []
        for target in targets:
            parts = BodyParts(self._names)
            if len(targets) == 1:
                parts.add(before + LENGTHS[1])
            parts.add_party(target)
            parts.add(_END_OF_BLOCKS if len(targets) == 1 else b"")
            made.append((target.id.compile("", self._names), parts.writes()))
        self._writes.append(_one_target(*made[0], before) if len(made) == 1 else _targets(made, before))

    def add_outcome(self, field: Field | None) -> None:
        """Add the outcome, which is unknown if it is null."""
        if field is None or is_constant(field):
            text = None if field is None else field.compile("", Names())(())
            self.add(_OUTCOMES[text or Outcome.UNKNOWN.value])
            return
        text_of, before = field.compile("", self._names), self._take()
        outcomes: Mapping[str | None, bytes] = {name: before + data for name, data in _OUTCOMES.items()} | {
            None: before + _OUTCOMES[Outcome.UNKNOWN.value]
        }
        self._writes.append(lambda values: outcomes[text_of(values)])

    def _take(self) -> bytes:
        """Return what goes before the next part."""
        before, self._before = self._before, b""
        return before


def is_constant(field: Field) -> bool:
    """Return whether a field is the same of every row."""
    names = Names()
    field.compile("", names)
    return not names.names


def _one_target(id_of: Value, parts: list[Write], before: bytes) -> Write:
    """Return what writes the list of one target, or of none; its parts write the whole list."""
    none = before + _END_OF_BLOCKS

    def write(values: Values) -> bytes:
        return none if id_of(values) is None else b"".join([part(values) for part in parts])

    return write


def _targets(made: list[tuple[Value, list[Write]]], before: bytes) -> Write:
    begins = [before, *[before + length for length in LENGTHS[1 : len(made) + 1]]]

    def write(values: Values) -> bytes:
        there = [b"".join([part(values) for part in parts]) for id_of, parts in made if id_of(values) is not None]
        return begins[len(there)] + b"".join(there) + _END_OF_BLOCKS

    return write


def _present(text: str | None) -> str:
    if text is None:
        raise LookupError("null")
    return text


def _required(text: str | None) -> bytes:
    data = _present(text).encode()
    if not data:
        raise LookupError("empty")
    return LENGTHS[len(data)] + data
