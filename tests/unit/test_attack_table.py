"""The attack table as the README of the fault tests shows it."""

from __future__ import annotations

from support.attacks.table import all_rows, shown, table

ROWS_MIN = 30


def test_the_readme_shows_every_row() -> None:
    """What the README says is reported is what the tests hold; write it anew by ``python -m support.attacks.table``."""
    assert shown() == table()


def test_rows_have_names_of_their_own() -> None:
    """There are enough rows, and a name is one row."""
    names = [row.name for row in all_rows()]
    assert len(names) == len(set(names))
    assert len(names) >= ROWS_MIN


def test_what_nobody_reports_is_explained() -> None:
    """A row without a report says in words why nobody can notice."""
    assert all(row.reports or row.not_shown for row in all_rows())
