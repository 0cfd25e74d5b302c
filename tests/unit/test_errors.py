"""The error tree: drawn in its module's docstring as it is, with a message and a hint on every error."""

from __future__ import annotations

import inspect
import re

import pytest

from sealstream.schemas import errors
from sealstream.schemas.errors import DeliveryError, EventInvalid, SealstreamError, StoreDamaged

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, SealstreamError)]
PLAIN = [kind for kind in CLASSES if next(iter(inspect.signature(kind).parameters)) == "message"]
"""The errors whose first argument is the message; the others name a place first, and tests of their own follow."""


def drawn_tree() -> dict[str, str]:
    """Return the parent of each class, as the docstring draws it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]  # the module has one
        match = re.match(r"( {4}(?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)(?:\s|$)", line)
        if match is None:
            continue
        depth = (len(match[1]) - 4) // 4 + ("── " in line)
        del path[depth:]
        if path:
            parents[match[2]] = path[-1]
        path.append(match[2])
    return parents


def test_tree_is_drawn_as_it_is() -> None:
    """The tree in the docstring names every class under its real parent, and none that does not exist."""
    real = {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES if kind is not SealstreamError}
    assert drawn_tree() == real


@pytest.mark.parametrize("kind", PLAIN)
def test_message_and_hint(kind: type[SealstreamError]) -> None:
    """Every error says what is wrong and, in parentheses, what to do about it."""
    error = kind("it broke", hint="mend it")
    assert (str(error), error.message, error.hint) == ("it broke (mend it)", "it broke", "mend it")
    assert str(kind("it broke")) == "it broke"


def test_event_invalid_names_the_field() -> None:
    """An event that breaks the model names the field at fault."""
    error = EventInvalid("targets.0.id", "is empty", hint="give one")
    assert (error.field, str(error)) == ("targets.0.id", "targets.0.id: is empty (give one)")


def test_store_damaged_names_the_place() -> None:
    """A damaged store names the tenant and the seq."""
    error = StoreDamaged("acme", 7, "the entry does not parse", hint="verify the store")
    assert (error.tenant, error.seq) == ("acme", 7)
    assert "acme" in str(error)
    assert str(error).endswith("(verify the store)")


def test_delivery_error_says_whether_to_try_again() -> None:
    """A failed delivery carries its cause, and may be tried again unless it says otherwise."""
    error = DeliveryError("event ev-1 did not reach Kafka", code="_MSG_TIMED_OUT")
    assert (error.code, error.retriable) == ("_MSG_TIMED_OUT", True)


def test_errors_are_caught_by_their_base() -> None:
    """Whoever catches the base catches every error that is raised on purpose, and no other."""
    assert all(issubclass(kind, SealstreamError) and kind.__doc__ for kind in CLASSES)
    assert not issubclass(ValueError, SealstreamError)
