"""The spool's file: what a commit keeps, who owns it, and what becomes of a damaged one."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from sealstream.producers.options import Fsync
from sealstream.producers.spool import opening
from sealstream.producers.spool.database import FILE_NAME, DataLost, Row, SpoolFile, checksum
from sealstream.producers.spool.opening import NEW_NAME, open_spool
from sealstream.producers.spool.owner import Ownership
from sealstream.schemas.errors import SpoolDamaged, SpoolError, SpoolOwned

ALL = 2**63 - 1
FULL, OFF = 2, 0


def row(number: int, value: bytes = b"") -> Row:
    """Return a sound row."""
    value = value or b"value %d " % number * 20
    return Row(number, checksum(number, value), value)


def filled(directory: Path, rows: int = 1000) -> Path:
    """Make a spool with so many rows, closed in order, and return its file."""
    file = open_spool(directory, "off").file
    file.set_meta("producer_id", "producer-1")
    file.append([row(number) for number in range(1, rows + 1)])
    file.close()
    return directory / FILE_NAME


def numbers(file: SpoolFile) -> list[int]:
    """Return the numbers of all rows."""
    return [found.number for found in file.read(0, ALL, 10**6, 10**9)]


def reopened(directory: Path) -> tuple[list[int], SpoolDamaged | None]:
    """Open a spool, and return its rows' numbers and the damage that was met."""
    opened = open_spool(directory, "off")
    try:
        assert all(found.is_sound for found in opened.file.read(0, ALL, 10**6, 10**9))
        return numbers(opened.file), opened.damage
    finally:
        opened.file.close()


class TestFile:
    """What is committed is there, and nothing else."""

    @pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, 1000])
    def test_rows_come_back_as_they_were(self, tmp_path: Path, rows: int) -> None:
        """A group of any size is stored whole, and survives the file's closing."""
        written = [row(number) for number in range(1, rows + 1)]
        file = open_spool(tmp_path, "batch").file
        file.append(written)
        file.close()

        file = open_spool(tmp_path, "batch").file
        assert file.read(0, ALL, 10**6, 10**9) == written
        assert file.summary()[:3] == (rows, rows, sum(len(each.value) for each in written))
        file.close()

    def test_done_rows_go_in_the_same_commit(self, tmp_path: Path) -> None:
        """Deletion costs no sync of its own: a range, and numbers that are none."""
        file = open_spool(tmp_path, "off").file
        file.append([row(number) for number in range(1, 2001)])

        file.append([row(2001)], list(range(1, 501)))
        assert numbers(file) == list(range(501, 2002))
        file.append((), range(501, 2001, 2))
        assert numbers(file) == [*range(502, 2001, 2), 2001]
        file.close()

    @pytest.mark.parametrize("seed", range(20))
    def test_of_any_numbers_the_rows_of_just_these_are_deleted(self, tmp_path: Path, seed: int) -> None:
        """Partitions answer in runs that lie across each other: whatever their gaps, no other row goes with them."""
        chance = random.Random(seed)
        file = open_spool(tmp_path, "off").file
        file.append([row(number) for number in range(1, 1001)])
        done = set[int]()
        for _ in range(chance.randint(1, 40)):
            start = chance.randint(1, 1000)
            done |= set(range(start, min(1001, start + chance.randint(1, 60))))

        file.append((), chance.sample(sorted(done), len(done)))

        assert numbers(file) == [number for number in range(1, 1001) if number not in done]
        file.close()

    def test_reading_is_bounded_by_rows_and_by_bytes(self, tmp_path: Path) -> None:
        """A backlog is read piece by piece."""
        file = open_spool(tmp_path, "off").file
        file.append([row(number, b"x" * 100) for number in range(1, 11)])

        assert [each.number for each in file.read(2, 9, 3, 10**6)] == [3, 4, 5]
        assert [each.number for each in file.read(8, 9, 3, 10**6)] == [9]
        assert [each.number for each in file.read(0, ALL, 10, 250)] == [1, 2, 3]
        assert file.count(2, 9) == 7
        file.close()

    @pytest.mark.parametrize("fsync", get_args(Fsync))
    def test_each_policy_syncs_as_it_says(self, tmp_path: Path, fsync: Fsync) -> None:
        """SQLite syncs each commit in WAL mode only with synchronous FULL: NORMAL, its usual companion, does not."""
        file = open_spool(tmp_path, fsync).file
        connection: sqlite3.Connection = file.connection  # what the file's own connection does
        found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")}
        file.close()

        assert found == {"synchronous": OFF if fsync == "off" else FULL, "journal_mode": "wal"}

    def test_a_refused_event_is_set_aside_whole(self, tmp_path: Path) -> None:
        """It is out of the way, and its bytes and the reason are kept."""
        path = filled(tmp_path, 3)
        file = open_spool(tmp_path, "off").file
        file.set_aside(2, b"bytes", "too large", "2026-01-01")
        assert numbers(file) == [1, 3]
        assert (file.summary().refused, file.summary().refused_bytes) == (1, 5)
        file.close()

        with sqlite3.connect(path) as other:
            assert other.execute("SELECT * FROM refused").fetchall() == [(2, "2026-01-01", "too large", b"bytes")]
        other.close()

    def test_nobody_else_may_read_it(self, tmp_path: Path) -> None:
        """Events are for their sender alone: file and log are readable by nobody else."""
        file = open_spool(tmp_path, "off").file
        file.append([row(1)])

        assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {
            FILE_NAME: 0,
            f"{FILE_NAME}-wal": 0,
        }
        file.close()

    def test_a_file_that_was_deleted_is_noticed(self, tmp_path: Path) -> None:
        """An open file without a name takes rows, and keeps none: it must not be trusted."""
        path = filled(tmp_path)
        file = open_spool(tmp_path, "off").file
        assert file.is_in_place()
        path.unlink()
        assert not file.is_in_place()
        path.touch()
        assert not file.is_in_place()
        file.close()

    def test_a_failed_commit_stores_nothing(self, tmp_path: Path) -> None:
        """With the disk full, the error is typed and says so, and the rows before are as they were."""
        file = open_spool(tmp_path, "off").file
        file.append([row(1)])
        file.connection.execute("PRAGMA max_page_count = 20")  # SQLite's own way to be full

        with pytest.raises(SpoolError, match="full") as caught:
            file.append([row(number, b"x" * 4000) for number in range(2, 100)], [1])

        assert "room" in caught.value.hint
        assert not isinstance(caught.value, DataLost)
        assert numbers(file) == [1]
        file.append([row(2)], [1])
        assert numbers(file) == [2]
        file.close()


class TestDamage:
    """What can be read of a damaged spool is kept, what is lost is counted, and the damaged file is set aside."""

    def test_a_sound_file_reports_nothing(self, tmp_path: Path) -> None:
        """Nor does a new one."""
        assert reopened(tmp_path) == ([], None)
        filled(tmp_path)
        assert reopened(tmp_path) == (list(range(1, 1001)), None)

    @pytest.mark.parametrize("content", [b"", b"not a database" * 500, b"SQLite format 3\x00" + bytes(5000)])
    def test_a_foreign_file_is_set_aside_and_the_spool_begins_anew(self, tmp_path: Path, content: bytes) -> None:
        """Nothing of it is overwritten; that its events are lost is said, and that nobody knows how many."""
        filled(tmp_path).write_bytes(content)

        found, damage = reopened(tmp_path)

        assert found == []
        assert damage is not None
        assert (damage.kept, damage.lost_max) == (0, -1)
        [aside] = tmp_path.glob("damaged-*.sqlite")
        assert aside.read_bytes() == content
        assert aside.name in damage.hint
        assert reopened(tmp_path) == ([], None)

    def test_another_programs_database_is_set_aside(self, tmp_path: Path) -> None:
        """A database that is none of ours is not written to."""
        filled(tmp_path).unlink()
        with sqlite3.connect(tmp_path / FILE_NAME) as other:
            other.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, checksum, value)")
        other.close()

        assert reopened(tmp_path)[1] is not None

    def test_of_a_cut_file_the_beginning_is_kept(self, tmp_path: Path) -> None:
        """As after a crash of the file system: the rows up to the cut are sent, the others counted as far as known."""
        path = filled(tmp_path, 5000)
        os.truncate(path, path.stat().st_size * 2 // 3)

        found, damage = reopened(tmp_path)

        assert 1000 < len(found) < 5000
        assert damage is not None
        assert damage.kept == len(found)
        assert reopened(tmp_path) == (found, None)

    def test_of_a_file_with_a_bad_page_the_rows_around_it_are_kept(self, tmp_path: Path) -> None:
        """A page of zeros in the middle costs its own rows, and these are counted."""
        path = filled(tmp_path, 5000)
        with path.open("r+b") as file:
            file.seek(4096 * (path.stat().st_size // 4096 // 2))
            file.write(bytes(4096))

        found, damage = reopened(tmp_path)

        assert damage is not None
        assert (damage.kept, damage.lost_max) == (len(found), 5000 - len(found))
        assert {1, 2500 - 200, 5000} <= set(found)
        assert 5000 - len(found) < 100

    def test_a_row_with_a_wrong_checksum_is_not_copied(self, tmp_path: Path) -> None:
        """SQLite does not see that a value was changed; the row's checksum does."""
        path = filled(tmp_path, 100)
        data = path.read_bytes().replace(b"value 7 value 7", b"value 8 value 7")
        path.write_bytes(data)
        file = SpoolFile(path, "off")
        assert [each.number for each in file.read(0, ALL, 1000, 10**6) if not each.is_sound] == [7]
        file.close()

        opened = opening.recover(tmp_path, "off", DataLost("told"))
        assert numbers(opened.file) == [number for number in range(1, 101) if number != 7]
        assert opened.damage is not None
        assert (opened.damage.kept, opened.damage.lost_max) == (99, 1)
        assert opened.file.meta("producer_id") == "producer-1"
        opened.file.close()

    def test_the_log_of_a_file_that_is_gone_is_not_applied_to_the_next(self, tmp_path: Path) -> None:
        """It is set aside, and the loss told."""
        file = open_spool(tmp_path, "off").file
        file.append([row(1)])
        (tmp_path / FILE_NAME).unlink()
        assert (tmp_path / f"{FILE_NAME}-wal").exists()

        found, damage = reopened(tmp_path)

        assert found == []
        assert damage is not None
        assert damage.lost_max == -1
        assert list(tmp_path.glob("damaged-*.sqlite-wal"))
        file.close()

    def test_dying_between_any_two_steps_of_a_recovery_loses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each start finds either the damaged file or the whole new one."""
        path = filled(tmp_path, 1000)
        with path.open("r+b") as file:
            file.seek(4096 * 10)
            file.write(bytes(4096))
        replace, renamed = Path.replace, list[str]()

        class Dies(Exception):
            """The process ends here."""

        def dies_before(step: int) -> None:
            def dying(self: Path, target: Path | str) -> Path:
                renamed.append(self.name)
                if len(renamed) == step:
                    raise Dies
                return replace(self, target)

            renamed.clear()
            monkeypatch.setattr(Path, "replace", dying)
            with pytest.raises((Dies, FileNotFoundError)):
                open_spool(tmp_path, "off")
            monkeypatch.setattr(Path, "replace", replace)

        monkeypatch.setattr(opening, "_SIDES", ("",))
        dies_before(1)
        assert renamed == [FILE_NAME]
        dies_before(2)
        assert renamed == [FILE_NAME, NEW_NAME]
        assert not path.exists()

        found, damage = reopened(tmp_path)
        assert len(found) > 900
        assert damage is None, "it was told by the process that died, if by any"

    def test_a_start_that_died_leaves_nothing_half_made(self, tmp_path: Path) -> None:
        """A new file that is not complete is made anew."""
        (tmp_path / NEW_NAME).write_bytes(b"half")

        assert reopened(tmp_path) == ([], None)


class TestOwnership:
    """One process has a spool at a time."""

    def test_a_second_owner_is_told_who_has_it(self, tmp_path: Path) -> None:
        """The error names the process; once that has let go, the spool is free."""
        first = Ownership(tmp_path)
        with pytest.raises(SpoolOwned, match=f"process {os.getpid()}") as caught:
            Ownership(tmp_path)
        assert caught.value.pid == os.getpid()
        assert caught.value.hint

        first.release()
        Ownership(tmp_path).release()

    def test_a_killed_owner_lets_go(self, tmp_path: Path) -> None:
        """The lock goes with the process, however it ends: there is no stale lock to remove by hand."""
        script = (
            "import sys, time; from pathlib import Path; from sealstream.producers.spool.owner import Ownership\n"
            "kept = Ownership(Path(sys.argv[1])); print('mine', flush=True); time.sleep(600)"
        )
        with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"mine\n"
            with pytest.raises(SpoolOwned) as caught:
                Ownership(tmp_path)
            assert caught.value.pid == owner.pid
            owner.kill()

        Ownership(tmp_path).release()

    def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(self, tmp_path: Path) -> None:
        """Else nobody could send what the parent left for as long as any of its children runs."""
        script = (
            "import os, signal, sys, time; from pathlib import Path\n"
            "from sealstream.producers.spool.owner import Ownership\n"
            "owner = Ownership(Path(sys.argv[1])); ready, told = os.pipe(); child = os.fork()\n"
            "if child == 0: os.write(told, b'1'); time.sleep(600)\n"
            "os.read(ready, 1); owner.release()\n"
            "try: Ownership(Path(sys.argv[1])).release()\n"
            "finally: os.kill(child, signal.SIGKILL); os.waitpid(child, 0)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
        )

        assert done.returncode == 0, done.stderr
