"""Templates of a mapping: texts with ``{column}`` in them, made into functions of a row's values.

A column that is null makes the whole template null. So nothing half-made, such as ``user:``, gets into an event. A list
of templates means the first of them that has a text: many trails write an empty one where they mean none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final, TypeAlias, cast

from sealstream.schemas.errors import ConfigError, EventInvalid

Values: TypeAlias = Sequence[str | None]
"""What a row has for each of the names that a mapping uses, in the order of :attr:`Names.names`."""
Value: TypeAlias = Callable[[Values], str | None]

_FIELD_KEYS: Final = frozenset({"value", "map", "otherwise"})


class Names:
    """The names that the templates of a mapping use, each with its place in a row's values."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def place(self, name: str) -> int:
        """Return the place of a name, which is a new one if it was not used yet."""
        return self.names.setdefault(name, len(self.names))


@dataclass(frozen=True, slots=True)
class Field:
    """How one field of an event is made: templates, of which the first that has a text counts, and a translation.

    Arguments:
        templates: At least one.
        translation: What stands for what the template gives; ``None`` for no translation.
        otherwise: The template for what the translation does not know; ``None`` if that is an error.
    """

    templates: tuple[str, ...]
    translation: Mapping[str, str] | None = None
    otherwise: str | None = None

    @classmethod
    def parse(cls, where: str, given: object) -> Field:
        """Return the field that a value of a mapping file describes.

        Raises:
            ConfigError: It has none of the forms that a field may have.
        """
        if isinstance(given, str):
            return cls((given,))
        if isinstance(given, list):
            return cls(_templates(where, cast("list[object]", given)))
        if not isinstance(given, dict):
            raise ConfigError(
                f"mapping: {where} is a {type(given).__name__}", hint="give a text, a list of texts, or a table"
            )
        table = cast("dict[str, object]", given)
        if "value" not in table or not table.keys() <= _FIELD_KEYS:
            raise ConfigError(f"mapping: {where} has other keys than value, map and otherwise")
        value, translation, otherwise = table["value"], table.get("map"), table.get("otherwise")
        if translation is not None and not _is_texts(translation):
            raise ConfigError(f"mapping: {where}.map is not a table of texts")
        if otherwise is not None and not isinstance(otherwise, str):
            raise ConfigError(f"mapping: {where}.otherwise is not a text")
        templates = (value,) if isinstance(value, str) else _templates(where, cast("list[object]", value))
        return cls(templates, cast("Mapping[str, str] | None", translation), otherwise)

    def compile(self, where: str, names: Names) -> Value:
        """Return the function that makes the field.

        Raises:
            ConfigError: A template is malformed.
            EventInvalid: From the function: the translation does not know a text.
        """
        made = _first([_template(where, text, names) for text in self.templates])
        if self.translation is None:
            return made
        translation = self.translation
        otherwise = None if self.otherwise is None else _template(where, self.otherwise, names)

        def translated(values: Values) -> str | None:
            text = made(values)
            if text is None or text in translation:
                return None if text is None else translation[text]
            if otherwise is None:
                raise EventInvalid(where, "has no translation in the mapping", hint="add it to map, or an otherwise")
            return otherwise(values)

        return translated


def value_reader(columns: Sequence[str], names: Names, *, whole: bool) -> Callable[[Values], Values]:
    """Return the function that finds the values of a row for the names that a mapping uses.

    A name is a column, or a path into the JSON of a column: ``changes.title`` where there is no column of that name.
    With a question mark behind it (``changes_text?``) it is null where there is no such column.

    Arguments:
        columns: The source's columns, in their order.
        names: The names used.
        whole: The one column is a JSON object, and the names are paths within it.

    Raises:
        ConfigError: A name is neither a column nor a path into one.
        EventInvalid: From the function: a column that a path leads into is no JSON.
    """
    places = {column: place for place, column in enumerate(columns)}
    plain: list[tuple[int, int]] = []
    paths: dict[int, list[tuple[int, list[str]]]] = {}
    for given, slot in names.names.items():
        name = given.removesuffix("?")
        column, _, path = name.partition(".")
        if whole:
            paths.setdefault(0, []).append((slot, name.split(".")))
        elif name in places:
            plain.append((slot, places[name]))
        elif path and column in places:
            paths.setdefault(places[column], []).append((slot, path.split(".")))
        elif name == given:
            raise ConfigError(f"mapping: {{{name}}} is no column", hint=f"the source has {', '.join(columns)[:500]}")
    direct = [place for _, place in sorted(plain)]
    count = len(names.names)
    if not paths and len(direct) == count:
        return lambda row: [row[place] for place in direct]

    def read(row: Values) -> Values:
        found: list[str | None] = [None] * count
        for slot, place in plain:
            found[slot] = row[place]
        for place, wanted in paths.items():
            text = row[place]
            document = None if text is None else load_json(columns[place], text)
            if whole and not isinstance(document, dict):
                raise EventInvalid(columns[place], "is no JSON object")
            for slot, path in wanted:
                found[slot] = json_text(_follow(document, path))
        return found

    return read


def load_json(column: str, text: str) -> Any:
    """Return the JSON that a column holds.

    Raises:
        EventInvalid: It holds none, or one nested too deep.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise EventInvalid(column, "is no JSON") from None


def json_text(value: Any) -> str | None:
    """Return a JSON value as a text: a string as it is, ``None`` for null, all else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _follow(document: Any, path: list[str]) -> Any:
    found = document
    for step in path:
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get(step)
        elif isinstance(found, list) and step.isdecimal():
            found = _item(found, int(step))  # pyright: ignore[reportUnknownArgumentType]  # untyped by nature
        else:
            return None
    return found


def _item(items: list[Any], number: int) -> Any:
    return items[number] if number < len(items) else None


def _template(where: str, text: str, names: Names) -> Value:
    """Return the function of one template."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(f"mapping: {where}: {text!r}: {error}", hint="write {{ and }} for braces") from None
    if any(conversion or spec for _, _, spec, conversion in parts):
        raise ConfigError(f"mapping: {where}: {text!r} has a format within braces", hint="write {column} alone")
    if any(name == "" for _, name, _, _ in parts):
        raise ConfigError(f"mapping: {where}: {text!r} has empty braces", hint="name the column: {column}")
    used = [names.place(name) for _, name, _, _ in parts if name is not None]
    if not used:
        constant = "".join(literal for literal, _, _, _ in parts)
        return lambda _: constant
    if len(parts) == 1 and not parts[0][0]:
        place = used[0]
        return lambda values: values[place]
    if len(parts) == 1:
        return _prefixed(parts[0][0], used[0])
    pieces = [(literal, None if name is None else names.place(name)) for literal, name, _, _ in parts]

    def fill(values: Values) -> str | None:
        made: list[str] = []
        for literal, slot in pieces:
            made.append(literal)
            if slot is not None:
                value = values[slot]
                if value is None:
                    return None
                made.append(value)
        return "".join(made)

    return fill


def _prefixed(prefix: str, place: int) -> Value:
    """Return the function of a text with one column behind it, as most templates are."""

    def fill(values: Values) -> str | None:
        value = values[place]
        return None if value is None else prefix + value

    return fill


def _first(made: list[Value]) -> Value:
    if len(made) == 1:
        return made[0]

    def first(values: Values) -> str | None:
        for one in made:
            text = one(values)
            if text:
                return text
        return None

    return first


def _templates(where: str, given: list[object]) -> tuple[str, ...]:
    if not given or not all(isinstance(text, str) for text in given):
        raise ConfigError(f"mapping: {where} is no list of texts")
    return tuple(cast("list[str]", given))


def _is_texts(given: object) -> bool:
    return isinstance(given, dict) and all(isinstance(text, str) for text in cast("dict[str, object]", given).values())
