"""Rows of files: CSV (RFC 4180) and NDJSON, in UTF-8, read line by line with bounded memory."""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self

from sealstream.producers.importer.mapping import SourceSpec
from sealstream.producers.importer.rows import CHUNK_ROWS, Position, SourceRow
from sealstream.schemas.errors import ConfigError, SourceUnreadable

LINE_BYTES_MAX: Final = 4_000_000
"""The longest line that is read; an event has a quarter of it."""

_CHUNK_BYTES: Final = 8_000_000
_LINE: Final = "line"
_BOM: Final = b"\xef\xbb\xbf"


class _File:
    """What both kinds of files have in common.

    Arguments:
        path: The file.
        spec: What the mapping says of it.

    Raises:
        SourceUnreadable: It cannot be opened.
    """

    whole = False

    def __init__(self, path: Path, spec: SourceSpec) -> None:
        self._path = path
        self._spec = spec
        if spec.table or spec.query:
            raise ConfigError("mapping: source has a table or a query, and the source is a file")
        self._file = self._open()
        try:
            self.columns = self._columns()
            self._begin = self._file.tell()
        except BaseException:
            self._file.close()
            raise

    @property
    def description(self) -> str:
        """The file's name, without its directory."""
        return f"file {self._path.name}"

    def total(self) -> int:
        """The file's size in bytes."""
        return self._path.stat().st_size

    def done(self, position: Position, rows: int) -> int:
        """The bytes read so far."""
        del rows
        return int(position[0]) if position else 0

    def rows_behind(self, position: Position) -> int:
        """How many bytes lie behind a position."""
        return max(0, self.total() - self.done(position, 0))

    def chunks(self, after: Position, until: Position = ()) -> Generator[list[SourceRow]]:
        """Yield the file's rows; a position is a byte offset and the number of lines before it."""
        offset, line = (int(after[0]), int(after[1])) if after else (self._begin, self._lines_before())
        end = int(until[0]) if until else None
        if offset > self.total():
            raise SourceUnreadable(
                f"{self.description} has {self.total()} bytes, and was read up to byte {offset} before",
                hint="it was cut or replaced: give the file as it was",
            )
        self._file.seek(offset)
        chunk: list[SourceRow] = []
        chunk_offset = offset
        for row in self._rows(_Lines(self._file, offset, line)):
            position = int(row.position[0])
            if end is not None and position > end:
                break
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS or position - chunk_offset > _CHUNK_BYTES:
                yield chunk
                chunk, chunk_offset = [], position
        if chunk:
            yield chunk

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _columns(self) -> tuple[str, ...]:
        raise NotImplementedError

    def _lines_before(self) -> int:
        return 0

    def _rows(self, lines: _Lines) -> Iterator[SourceRow]:
        raise NotImplementedError

    def _open(self) -> BinaryIO:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise SourceUnreadable(f"{self._path} cannot be read: {error.strerror}") from error
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        return file


class NdjsonSource(_File):
    """A file with one JSON object a line. Its one column is the line."""

    whole = True

    def _columns(self) -> tuple[str, ...]:
        return (_LINE,)

    def _rows(self, lines: _Lines) -> Iterator[SourceRow]:
        for data in lines:
            text = data.removesuffix(b"\n").removesuffix(b"\r")
            if not text.strip():
                continue  # which is no row: the usual end of such a file
            position = (lines.offset, lines.number)
            if lines.is_too_long:
                yield SourceRow(str(lines.number), (), position, f"has a line of more than {LINE_BYTES_MAX} bytes")
            else:
                yield SourceRow(str(lines.number), (text.decode(errors="surrogateescape"),), position)


class CsvSource(_File):
    """A CSV file whose first line names the columns, unless the mapping does."""

    def _columns(self) -> tuple[str, ...]:
        csv.field_size_limit(LINE_BYTES_MAX)  # the process's; ours reads no other CSV
        self._header_lines = 0
        columns = self._spec.columns
        if not columns:
            lines = _Lines(self._file, self._file.tell(), 0)
            header = next(self._reader(lines), list[str]())
            self._file.seek(lines.offset)
            self._header_lines = lines.number
            columns = tuple(header)
        if not columns or not all(columns) or len(set(columns)) != len(columns):
            raise ConfigError(
                f"{self.description} has no header line of different names", hint="name them: source.columns"
            )
        return columns

    def _lines_before(self) -> int:
        return self._header_lines

    def _reader(self, lines: _Lines) -> Iterator[list[str]]:
        texts = (line.decode(errors="surrogateescape") for line in lines.checked())
        reader = csv.reader(texts, delimiter=self._spec.delimiter, strict=True)
        while True:
            try:
                yield next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # What follows cannot be told apart any more: a quote that is open may hide rows.
                raise SourceUnreadable(
                    f"{self.description} line {lines.number}: {error}", hint="repair the quotes of this line"
                ) from error

    def _rows(self, lines: _Lines) -> Iterator[SourceRow]:
        width, first = len(self.columns), lines.number
        for fields in self._reader(lines):
            key, first = str(first + 1), lines.number
            if not fields:
                continue  # an empty line is no row
            position = (lines.offset, lines.number)
            if len(fields) != width:
                yield SourceRow(key, (), position, f"has {len(fields)} fields instead of {width}")
            else:
                yield SourceRow(key, [field or None for field in fields], position)


class _Lines:
    """The lines of a file, with the place behind the one read last.

    Arguments:
        file: The file, at the beginning of a line.
        offset: Where that is.
        number: How many lines are before it.
    """

    def __init__(self, file: BinaryIO, offset: int, number: int) -> None:
        self._file = file
        self.offset = offset
        self.number = number
        self.is_too_long = False

    def __iter__(self) -> Iterator[bytes]:
        while line := self._file.readline(LINE_BYTES_MAX):
            self.offset += len(line)
            self.number += 1
            self.is_too_long = len(line) == LINE_BYTES_MAX and not line.endswith(b"\n")
            if self.is_too_long:
                self._skip()
            yield line

    def checked(self) -> Iterator[bytes]:
        """Yield the lines; one that is too long ends it.

        Raises:
            SourceUnreadable: A line is too long.
        """
        for line in self:
            if self.is_too_long:
                raise SourceUnreadable(f"line {self.number} has more than {LINE_BYTES_MAX} bytes")
            yield line

    def _skip(self) -> None:
        """Read on to the line's end, without keeping it."""
        while piece := self._file.readline(LINE_BYTES_MAX):
            self.offset += len(piece)
            if piece.endswith(b"\n"):
                return
