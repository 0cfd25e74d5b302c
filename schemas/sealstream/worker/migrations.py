"""Numbered SQL files that bring a database to this version: applied once each, in order, forward only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sealstream.schemas.errors import StoreError


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration.

    Arguments:
        number: Its place in the order, from 1.
        name: Its file's name.
        checksum: SHA-256 of the file, in hex.
        text: The SQL, as the file has it.
    """

    number: int
    name: str
    checksum: str
    text: bytes


@cache
def shipped_migrations(package: str) -> tuple[Migration, ...]:
    """Return the migrations that this version ships, in order.

    Arguments:
        package: The package whose folder ``migrations`` has them.
    """
    found = [
        Migration(int(file.name.partition("_")[0]), file.name, hashlib.sha256(content).hexdigest(), content)
        for file in files(package).joinpath("migrations").iterdir()
        if file.name[:1].isdigit() and file.name.endswith(".sql")
        for content in (file.read_bytes(),)
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


def pending_migrations(
    done: dict[int, tuple[str, str]], shipped: tuple[Migration, ...], *, database: str
) -> list[Migration]:
    """Return what is still to be applied.

    Arguments:
        done: Name and checksum of what was applied, by number.
        shipped: What this version ships.
        database: What errors call the database, such as ``the store``.

    Raises:
        StoreError: What was applied is not a beginning of what this version ships.
    """
    known = {migration.number: migration for migration in shipped}
    for number, (name, checksum) in sorted(done.items()):
        if number not in known:
            raise StoreError(
                f"{database} has migration {name}, which is newer than this version", hint="use a newer one"
            )
        if checksum != known[number].checksum:
            raise StoreError(
                f"migration {name} was changed after it was applied",
                hint="restore the file; changes are new migrations",
            )
    fresh = [migration for migration in shipped if migration.number not in done]
    if fresh and done and fresh[0].number < max(done):
        raise StoreError(f"migration {fresh[0].name} was never applied, though later ones were")
    return fresh
