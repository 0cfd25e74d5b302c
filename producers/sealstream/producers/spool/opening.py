"""Opening a spool: what an earlier process left in it, however it ended, and whatever happened to the file since.

A damaged file is read as far as it goes into a new one, which takes its place; the damaged one is set aside, never
deleted. The order of these steps is such that dying in between loses nothing: see :func:`recover`.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealstream.producers.options import Fsync
from sealstream.producers.spool.database import FILE_NAME, DataLost, Row, SpoolFile
from sealstream.schemas.errors import SpoolDamaged, SpoolError

NEW_NAME: Final = "spool.sqlite.new"
_COMPLETE: Final = "complete"
_SIDES: Final = ("", "-wal", "-shm")
_ROWS_A_READ: Final = 500
_READ_BYTES: Final = 4 * 1024 * 1024
_NUMBER_MAX: Final = 2**63 - 1
_STRIDES_MAX: Final = 64
"""How often reading jumps ahead, each time twice as far, over rows that cannot be read."""
_READS_MAX: Final = 1_000_000
"""How many reads a recovery may take: rows near an unreadable place are read one by one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open spool.

    Arguments:
        file: The file.
        damage: What was lost before it could be opened, if anything was.
    """

    file: SpoolFile
    damage: SpoolDamaged | None


def open_spool(directory: Path, fsync: Fsync) -> Opened:
    """Open a spool's file, and recover it first if it is damaged.

    Raises:
        SpoolError: It cannot be opened, and that is not because it is damaged: a full disk, say, or missing rights.
    """
    path, new = directory / FILE_NAME, directory / NEW_NAME
    damage = None
    if not path.exists():
        damage = _set_log_aside(directory, path)
        if not (new.exists() and _is_complete(new)):
            _remove(new)
            _make(new, fsync)
        # If we die before here, the next start finds the new file: made just now, or by recover().
        new.replace(path)
    try:
        file = SpoolFile(path, fsync)
        try:
            file.summary()
        except SpoolError:
            file.close()
            raise
    except DataLost as error:
        return recover(directory, fsync, error)
    return Opened(file, damage)


def _set_log_aside(directory: Path, path: Path) -> SpoolDamaged | None:
    """Set aside the log of a file that somebody has removed: SQLite would apply it to the next one of that name."""
    log = Path(f"{path}-wal")
    if not log.exists():
        return None
    aside = _free_name(directory)
    log.replace(f"{aside}-wal")
    return SpoolDamaged(
        f"spool {path}: its file is gone, and how many events are lost cannot be told",
        hint=f"its log is kept as {aside.name}-wal; `sealstream receipts check` tells what is missing",
    )


def _make(path: Path, fsync: Fsync) -> None:
    file = SpoolFile(path, fsync, make=True)
    try:
        file.set_meta(_COMPLETE, "yes")
    finally:
        file.close()


def recover(directory: Path, fsync: Fsync, error: DataLost) -> Opened:
    """Put what can be read of a damaged spool into a new one, and set the damaged one aside.

    Raises:
        SpoolError: The new one cannot be written; the damaged one is as it was.
    """
    path, new = directory / FILE_NAME, directory / NEW_NAME
    _remove(new)
    copy = SpoolFile(new, fsync, make=True)
    try:
        kept, lost_max = _copy(path, copy)
        copy.set_meta(_COMPLETE, "yes")
    finally:
        copy.close()
    # If we die before here, the damaged file is untouched, and the next start begins anew.
    aside = _free_name(directory)
    for side in reversed(_SIDES):  # its log first: without the file nobody takes it for that of another
        with suppress(FileNotFoundError):
            Path(f"{path}{side}").replace(f"{aside}{side}")
    # If we die here, there is only the new file, which says that it is complete: the next start takes it.
    new.replace(path)
    lost = "how many events are lost cannot be told" if lost_max < 0 else f"at most {lost_max} events are lost"
    damage = SpoolDamaged(
        f"{error.message}; {kept} events were recovered, {lost}",
        hint=f"the damaged file is kept as {aside.name}; `sealstream receipts check` tells what is missing",
        kept=kept,
        lost_max=lost_max,
    )
    return Opened(SpoolFile(path, fsync), damage)


def _copy(path: Path, copy: SpoolFile) -> tuple[int, int]:
    """Copy every sound row that can be read; return how many, and how many may be missing (-1: unknown)."""
    try:
        damaged = SpoolFile(path, "off", is_damaged=True)
    except SpoolError:
        return 0, -1  # not even its first page can be read
    try:
        for name in ("producer_id", "epoch"):
            with suppress(SpoolError):
                value = damaged.meta(name)
                if value is not None:
                    copy.set_meta(name, value)
        return _copy_rows(damaged, copy)
    finally:
        damaged.close()


def _copy_rows(damaged: SpoolFile, copy: SpoolFile) -> tuple[int, int]:
    found = _Found()
    for rows in _readable_rows(damaged, found):
        sound = [row for row in rows if row.is_sound]
        found.lost += len(rows) - len(sound)
        found.kept += len(sound)
        copy.append(sound)
    return found.kept, found.lost if found.is_whole else -1


@dataclass(slots=True)
class _Found:
    """What reading a damaged file has come to; it is whole once its end was read."""

    kept: int = 0
    lost: int = 0
    is_whole: bool = False


def _readable_rows(damaged: SpoolFile, found: _Found) -> Generator[list[Row]]:
    """Yield what can be read, in groups, and count what cannot."""
    after, limit, group = 0, _ROWS_A_READ, list[Row]()
    for _ in range(_READS_MAX):
        try:
            rows = damaged.read(after, _NUMBER_MAX, limit, _READ_BYTES)
        except SpoolError:
            if limit > 1:
                limit = 1  # up to the very row that cannot be read
                continue
            behind = _next_readable(damaged, after)
            if behind is None or behind <= after:
                break  # nobody knows where the rows would have ended
            found.lost += behind - after - 1 if after else 0  # before the first row there is nothing to count from
            after, limit = behind - 1, _ROWS_A_READ
            continue
        if not rows:
            found.is_whole = True
            break
        if rows[-1].number <= after:
            break  # the order itself is damaged
        group += rows
        after = rows[-1].number
        if len(group) >= _ROWS_A_READ:
            yield group
            group = []
    yield group


def _next_readable(damaged: SpoolFile, after: int) -> int | None:
    """Return the number of a readable row behind those that are not: strides that double, then a search between."""
    low, high, found = after, 0, None
    for power in range(_STRIDES_MAX):
        probe = after + (1 << power)
        found = _row_behind(damaged, probe) if probe <= _NUMBER_MAX else None
        if found is not None:
            high = probe
            break
        low = probe
    while found is not None and high - low > 1:
        middle = (low + high) // 2
        nearer = _row_behind(damaged, middle)
        if nearer is None:
            low = middle
        else:
            high, found = middle, nearer
    return found


def _row_behind(damaged: SpoolFile, number: int) -> int | None:
    with suppress(SpoolError):
        rows = damaged.read(number, _NUMBER_MAX, 1, 1)
        return rows[0].number if rows else None
    return None


def _is_complete(path: Path) -> bool:
    try:
        file = SpoolFile(path, "off")
    except SpoolError:
        return False
    try:
        return file.meta(_COMPLETE) is not None
    except SpoolError:
        return False
    finally:
        file.close()


def _free_name(directory: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name, number = directory / f"damaged-{stamp}.sqlite", 1
    while name.exists():
        name, number = directory / f"damaged-{stamp}-{number}.sqlite", number + 1
    return name


def _remove(path: Path) -> None:
    for side in _SIDES:
        with suppress(FileNotFoundError):
            Path(f"{path}{side}").unlink()
