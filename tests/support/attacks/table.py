"""The rows of all attackers, and the table of them that `tests/fault/README.md` shows.

Whoever has rows names them in `ROWS`; ``python -m support.attacks.table`` in `tests/` writes the table anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from support.attacks import database, kafka, keys, notary, processor, servers, storage
from support.attacks.attack import Attack, Report

ROWS: Final[tuple[tuple[Attack[Any], ...], ...]] = (
    database.ROWS,
    kafka.ROWS,
    processor.ROWS,
    keys.ROWS,
    servers.ROWS,
    storage.ROWS,
    notary.ROWS,
)
README: Final = Path(__file__).parents[2] / "fault" / "README.md"
_BEGIN: Final = "<!-- attacks: made by support.attacks.table -->\n"
_END: Final = "<!-- end of attacks -->\n"


def all_rows() -> tuple[Attack[Any], ...]:
    """Return the rows of all attackers."""
    return tuple(row for rows in ROWS for row in rows)


def table() -> str:
    """Return all rows as a table, one for each attacker."""
    lines: list[str] = []
    for attacker in dict.fromkeys(row.attacker for row in all_rows()):
        rows = [row for row in all_rows() if row.attacker == attacker]
        lines += [
            f"### {attacker.capitalize()}: {len(rows)} rows",
            "",
            "| what he does | what is reported |",
            "|---|---|",
        ]
        lines += [f"| {row.name} | {_cell(row)} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def shown() -> str:
    """Return the table as the README has it."""
    return README.read_text(encoding="utf-8").partition(_BEGIN)[2].partition(_END)[0]


def write() -> None:
    """Write the table into the README."""
    before, begin, rest = README.read_text(encoding="utf-8").partition(_BEGIN)
    README.write_text(f"{before}{begin}{table()}{_END}{rest.partition(_END)[2]}", encoding="utf-8")


def _cell(row: Attack[Any]) -> str:
    """Return what a row's reports are, those of one kind and place together."""
    by_words: dict[str, list[str]] = {}
    for report in row.reports:
        where = by_words.setdefault(_words(report), [])
        if report.where not in where:
            where.append(report.where)
    found = [f"{', '.join(where)}: {words}" for words, where in by_words.items()]
    return "<br>".join([*(found or ["nothing"]), *([row.not_shown] if row.not_shown else [])])


def _words(report: Report) -> str:
    place = "" if report.seq is None else f" {report.seq}"
    return f"`{report.type}`" + (f" {report.tenant}{place}" if report.tenant else "")


if __name__ == "__main__":
    write()
