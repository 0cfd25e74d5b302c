"""Files: every row with its line, whatever is wrong with others, and from any place on as from the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealstream.producers.importer import file_source
from sealstream.producers.importer.file_source import CsvSource, NdjsonSource
from sealstream.producers.importer.mapping import SourceSpec
from sealstream.producers.importer.opening import open_source
from sealstream.producers.importer.rows import Position, Source, SourceRow
from sealstream.schemas.errors import ConfigError, SourceUnreadable
from support.importing import mapping


def read(source: Source, after: Position = (), until: Position = ()) -> list[SourceRow]:
    """Return all rows of a source from a place on."""
    return [row for chunk in source.chunks(after, until) for row in chunk]


def csv_of(path: Path, data: bytes, **settings: object) -> CsvSource:
    """Return a CSV source with this content."""
    path.write_bytes(data)
    return CsvSource(path, SourceSpec(**settings))  # type: ignore[arg-type]


class TestCsv:
    """RFC 4180, with a header."""

    def test_rows(self, tmp_path: Path) -> None:
        """Quotes, newlines within them, empty fields as null, a BOM and CRLF; the key is the row's first line."""
        data = b'\xef\xbb\xbfid,note\r\n1,"a ""b""\r\nc"\r\n2,\r\n\r\n3,z\xc3\xbc\r\n'
        with csv_of(tmp_path / "a.csv", data) as source:
            assert source.columns == ("id", "note")
            assert [(row.key, tuple(row.texts)) for row in read(source)] == [
                ("2", ("1", 'a "b"\r\nc')),
                ("4", ("2", None)),
                ("6", ("3", "zü")),
            ]

    def test_bad_rows_are_named(self, tmp_path: Path) -> None:
        """A row with more or fewer fields has a problem and its line; one that is no UTF-8 keeps its bytes."""
        with csv_of(tmp_path / "a.csv", b"a,b\n1\n1,2,3\n\xff,2\n") as source:
            found = read(source)
        assert [(row.key, bool(row.problem)) for row in found] == [("2", True), ("3", True), ("4", False)]
        assert found[2].texts == ["\udcff", "2"]

    def test_open_quote(self, tmp_path: Path) -> None:
        """A quote that is not closed ends the reading: rows behind it could be hidden in it."""
        for data in (b'a,b\n1,"2\n3,4\n', b'a,b\n1,"2"x\n3,4\n'):
            with csv_of(tmp_path / "a.csv", data) as source, pytest.raises(SourceUnreadable, match="line"):
                read(source)

    def test_long_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A line that is too long is never held in memory."""
        monkeypatch.setattr(file_source, "LINE_BYTES_MAX", 20)
        data = b"a,b\n1," + b"x" * 100 + b"\n"
        with csv_of(tmp_path / "a.csv", data) as source, pytest.raises(SourceUnreadable, match="more than 20"):
            read(source)

    @pytest.mark.parametrize("data", [b"", b"a,a\n", b"a,\n1,2\n"])
    def test_header(self, tmp_path: Path, data: bytes) -> None:
        """A header that does not name every column differently is refused."""
        with pytest.raises(ConfigError, match="header"):
            csv_of(tmp_path / "a.csv", data)

    def test_columns_by_mapping(self, tmp_path: Path) -> None:
        """A file without a header has the names that the mapping gives, and the delimiter."""
        with csv_of(tmp_path / "a.csv", b"1;2\n", columns=("a", "b"), delimiter=";") as source:
            assert [(row.key, row.texts) for row in read(source)] == [("1", ["1", "2"])]


class TestNdjson:
    """One JSON object a line."""

    def test_lines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lines as they are, empty ones left out; one that is too long has a problem, and those behind it are read."""
        monkeypatch.setattr(file_source, "LINE_BYTES_MAX", 20)
        path = tmp_path / "a.ndjson"
        path.write_bytes(b'{"a": 1}\r\n\n' + b"x" * 70 + b'\n{"b": 2}')
        with NdjsonSource(path, SourceSpec()) as source:
            found = read(source)
        assert [(row.key, tuple(row.texts), bool(row.problem)) for row in found] == [
            ("1", ('{"a": 1}',), False),
            ("3", (), True),
            ("4", ('{"b": 2}',), False),
        ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.lists(st.text('ab",\n ü', max_size=4), min_size=2, max_size=3), max_size=8))
def test_from_any_place_on(tmp_path: Path, fields: list[list[str]]) -> None:
    """Behind each row the rest reads as it did before, and up to each row nothing behind it is read."""
    lines = ["a,b", *(",".join('"' + text.replace('"', '""') + '"' for text in one) for one in fields)]
    with csv_of(tmp_path / "a.csv", "\n".join(lines).encode() + b"\n") as source:
        whole = read(source)
        assert len(whole) == len(fields)
        for number, row in enumerate(whole, 1):
            assert read(source, row.position) == whole[number:]
            assert read(source, (), row.position) == whole[:number]
            assert source.rows_behind(row.position) >= len(whole) - number


def test_cut_file(tmp_path: Path) -> None:
    """A file that is shorter than what was read of it is refused, and so is one that is not there."""
    with csv_of(tmp_path / "a.csv", b"a,b\n1,2\n") as source, pytest.raises(SourceUnreadable, match="cut"):
        read(source, (100, 5))
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        NdjsonSource(tmp_path / "none.ndjson", SourceSpec())


def test_opening(tmp_path: Path) -> None:
    """A file is known by its suffix or the mapping's format; what is neither file nor URL is not quoted."""
    how = mapping("")
    for suffix, kind in ((".csv", CsvSource), (".ndjson", NdjsonSource), (".jsonl", NdjsonSource)):
        path = tmp_path / f"a{suffix}"
        path.write_text("a,b\n")
        with open_source(str(path), how) as source:
            assert isinstance(source, kind)
            assert source.description == f"file a{suffix}"
    with pytest.raises(ConfigError, match="unknown format"):
        open_source(str(tmp_path / "a.txt"), how)
    with pytest.raises(ConfigError) as caught:
        open_source("mysql://user:secret@db/x", how)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="table"):
        CsvSource(tmp_path / "a.csv", SourceSpec(table="x"))
