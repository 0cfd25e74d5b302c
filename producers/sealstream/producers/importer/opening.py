"""Sources by what a user names them: a database by its URL, a file by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sealstream.producers.importer.file_source import CsvSource, NdjsonSource
from sealstream.producers.importer.mapping import FileFormat, Mapping
from sealstream.producers.importer.rows import Source
from sealstream.schemas.errors import ConfigError

_SCHEMES: Final = ("postgresql://", "postgres://")
_SUFFIXES: Final[dict[str, FileFormat]] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


def open_source(name: str, mapping: Mapping) -> Source:
    """Return the source of a name.

    Arguments:
        name: A PostgreSQL URL, or the path of a CSV or NDJSON file.
        mapping: What it says of the source; the format of a file, unless its name ends with it.

    Raises:
        ConfigError: The name is neither, or the mapping does not fit.
        SourceUnreadable, Unreachable: It cannot be read.
    """
    if name.startswith(_SCHEMES):
        from sealstream.producers.importer.postgres_source import PostgresSource  # noqa: PLC0415  # needs psycopg

        return PostgresSource(name, mapping.source)
    if "://" in name:
        raise ConfigError("the source is neither a PostgreSQL URL nor a file")  # not quoted: it may hold a password
    path = Path(name)
    file_format = mapping.source.format or _SUFFIXES.get(path.suffix.lower())
    if file_format is None:
        raise ConfigError(f"{path.name} is a file of an unknown format", hint="give source.format: csv or ndjson")
    return CsvSource(path, mapping.source) if file_format == "csv" else NdjsonSource(path, mapping.source)
