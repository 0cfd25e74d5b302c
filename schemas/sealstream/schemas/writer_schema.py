"""Which schemas of others a value may be decoded with.

A writer's schema comes from a registry that others write to. Two things in it would let a value of a few bytes keep a
reader busy for ever, or end its process: a type that takes no bytes (an array of a quintillion nulls is ten bytes
long), and a type that contains itself (fastavro decodes it by recursion in C, which ends in a segmentation fault).
Without them every value decoded costs at least one byte of input, and none is nested deeper than its schema.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from sealstream.schemas.errors import SchemaUnknown

Schema: TypeAlias = Any  # a schema's JSON, with marks of its own where fastavro has parsed it
_Node: TypeAlias = str | list[Any] | dict[str, Any]  # a name, a union, a definition

NESTING_MAX: Final = 64
"""How deep a schema may be nested; AuditEvent is nested 4 deep."""
_HINT: Final = "register a later version of AuditEvent, which begins with its first four fields and is no tree"


def parse_writer_schema(text: Schema) -> Schema:
    """Return a writer's schema, parsed and found to be safe to decode with.

    Arguments:
        text: The schema's JSON, loaded; parsed already or not.

    Raises:
        SchemaUnknown: It is no Avro schema, or contains a type that takes no bytes, a type that contains itself, or
            types nested deeper than :data:`NESTING_MAX`.
    """
    try:
        parsed = parse_schema(text)
    except (
        SchemaParseException,
        UnknownType,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise SchemaUnknown(f"the writer's schema is no Avro schema: {type(error).__name__}", hint=_HINT) from error
    _Walk().visit(parsed, frozenset(), 0)
    return parsed


class _Walk:
    """One walk through a schema, which knows how deep each named type is that it came past."""

    def __init__(self) -> None:
        self._heights: dict[str, int] = {}

    def visit(self, schema: _Node, around: frozenset[str], depth: int) -> int:
        """Refuse what a schema must not contain, and return how many levels it has.

        Arguments:
            schema: The schema.
            around: The named types that it stands in.
            depth: How many schemas it stands in.
        """
        height = 1
        if isinstance(schema, str):
            height = self._reference(schema, around)
        elif isinstance(schema, list):
            taken = (branch for branch in schema if branch != "null")  # a null takes the byte of its number
            height += max((self.visit(branch, around, depth + 1) for branch in taken), default=0)
        else:
            height += self._definition(schema, around, depth)
        if depth + height > NESTING_MAX:
            raise SchemaUnknown(f"the writer's schema is nested deeper than {NESTING_MAX}", hint=_HINT)
        return height

    def _reference(self, name: str, around: frozenset[str]) -> int:
        if name == "null":
            raise SchemaUnknown("the writer's schema has a null outside of a union", hint=_HINT)
        if name in around:
            raise SchemaUnknown(f"the writer's schema has the type {name}, which contains itself", hint=_HINT)
        return self._heights.get(name, 1)  # what is no named type is a primitive one

    def _definition(self, schema: dict[str, Any], around: frozenset[str], depth: int) -> int:
        kind, name = schema["type"], str(schema.get("name", ""))
        if depth > NESTING_MAX:
            raise SchemaUnknown(f"the writer's schema is nested deeper than {NESTING_MAX}", hint=_HINT)
        if kind in ("record", "error"):
            if not schema["fields"]:
                raise SchemaUnknown(f"the writer's schema has the record {name}, which has no field", hint=_HINT)
            height = max(self.visit(field["type"], around | {name}, depth + 1) for field in schema["fields"])
            self._heights[name] = height + 1
            return height
        if kind == "fixed" and (type(schema["size"]) is not int or schema["size"] < 1):  # fastavro takes any value
            raise SchemaUnknown(f"the writer's schema has the fixed {name}, which takes no bytes", hint=_HINT)
        if kind in ("fixed", "enum"):
            return 0
        if kind == "array":
            return self.visit(schema["items"], around, depth + 1)
        return self.visit(
            schema["values"] if kind == "map" else kind, around, depth + 1
        )  # else one with a logical type
