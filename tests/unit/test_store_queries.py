"""Searches: what is asked, what is refused, and cursors."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import StoreError
from sealstream.sinks.store.queries import LIMIT_MAX, Search, check_limit

TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def _row(seq: int) -> tuple[Any, ...]:
    return ("acme", seq, 1, f"ev-{seq}", TIME, *[None] * 12)


def test_what_is_given_narrows_the_search_and_nothing_else_does() -> None:
    """Only given conditions are asked, all values as parameters."""
    query, parameters = Search(tenant="acme", actor="u'; DROP", limit=10).query()
    text = query.as_string(None)

    assert "left(actor_id, 128)" in text
    assert "DROP" not in text
    assert "outcome =" not in text
    assert parameters == {"tenant": "acme", "actor": "u'; DROP", "actor_begin": "u'; DROP", "limit": 11}


def test_an_action_can_end_with_a_star() -> None:
    """``document.*`` stands for all actions that begin so; a percent sign is only a percent sign."""
    query, parameters = Search(tenant="acme", action="document.%*").query()
    assert "starts_with" in query.as_string(None)
    assert parameters["action"] == "document.%"


def test_a_text_is_searched_as_it_is() -> None:
    """Characters that patterns use stand for themselves."""
    assert Search(tenant="acme", text="50%_\\").query()[1]["text"] == "%50\\%\\_\\\\%"


@pytest.mark.parametrize("limit", [0, -1, LIMIT_MAX + 1])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    """A page is never empty by request and never without bound."""
    with pytest.raises(StoreError, match="limit"):
        Search(tenant="acme", limit=limit).query()
    with pytest.raises(StoreError, match="limit"):
        check_limit(limit)


@pytest.mark.parametrize(
    "conditions",
    [{"since": datetime(2026, 1, 1)}, {"until": datetime(2026, 1, 1)}, {"actor": "\0"}, {"text": "x" * 10_000}],  # noqa: DTZ001
)
def test_conditions_that_cannot_be_asked_are_refused(conditions: dict[str, Any]) -> None:
    """A time without a zone, a NUL and an endless text are errors that name the condition."""
    with pytest.raises(StoreError, match=next(iter(conditions))):
        Search(tenant="acme", **conditions).query()


def test_a_page_has_a_cursor_only_if_there_is_more() -> None:
    """The cursor goes on behind the last event of the page."""
    search = Search(tenant="acme", limit=2)
    page = search.page([_row(9), _row(8), _row(7)])

    assert [event.seq for event in page.events] == [9, 8]
    assert page.events[0].kind is Kind.EVENT
    assert page.cursor is not None
    parameters = Search(tenant="acme", limit=2, cursor=page.cursor).query()[1]
    assert (parameters["before"], parameters["before_seq"]) == (TIME, 8)
    assert search.page([_row(9), _row(8)]).cursor is None
    assert search.page([]).events == ()


@given(st.text(max_size=40) | st.binary(max_size=30).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    """Whatever is given as a cursor is either understood or refused with an error of ours."""
    try:
        _, parameters = Search(tenant="acme", cursor=cursor).query()
    except StoreError:
        return
    assert isinstance(parameters["before"], datetime)
