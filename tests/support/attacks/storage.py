"""Rows of the attack table: a storage that lies to who verifies a store, and to who makes proofs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sealstream.schemas.log_layout import ROOT_CHECKPOINT
from sealstream.schemas.note import sign_note
from sealstream.sinks.notary.migrate import migrate as migrate_notary
from sealstream.worker.objects import open_objects
from support.attacks.attack import Attack, Report
from support.chained import INSTANCE, Chains
from support.compared import POLICY, Compared, compared
from support.malicious.proofs import without_witnesses
from support.memory_notary import MAP_SECRET, MemoryNotary
from support.memory_notary import policy as proven_policy
from support.notes import NOW_SECONDS, signer
from support.providers import fresh_database
from support.rounds import SECRET
from support.shell import Shell
from support.stores import TestStore, migrated, open_feeder
from support.timestamping import make_authority

TENANTS: Final = ("acme", "globex")
NOTE_BYTES: Final = 2_000_000
PROVEN_SEQ: Final = 150


class StorageStage:
    """A store and what is published of it, to be verified; and another one, of which proofs are made.

    Arguments:
        instance: The first one, with three rounds.
        proven: The second one's store.
        directory: Where files go.
    """

    def __init__(self, instance: Compared, proven: TestStore, directory: Path) -> None:
        self.instance = instance
        self.directory = directory
        self.proven_log = directory / "proven-log"
        instance.append(*TENANTS, count=5)
        instance.publish()
        instance.append(*TENANTS, count=3, skip=1)
        instance.publish()
        instance.append("acme", count=2)
        instance.publish()
        self.kept = directory / "kept"
        self.kept.write_bytes(instance.sign())
        self._verifying = Shell(
            SEALSTREAM_DATABASE=instance.store.reader("*"),
            SEALSTREAM_NOTARY_DATABASE=instance.notary,
            SEALSTREAM_MAP_SECRET=SECRET.hex(),
            SEALSTREAM_POLICY=POLICY.pack().decode(),
            SEALSTREAM_INSTANCE=INSTANCE,
        )
        self._proving = Shell(
            SEALSTREAM_DATABASE=proven.reader("*"),
            SEALSTREAM_NOTARY_DATABASE=proven.login("sealstream_notary_reader"),
            SEALSTREAM_LOG_STORAGE=str(self.proven_log),
            SEALSTREAM_MAP_SECRET=MAP_SECRET.hex(),
            SEALSTREAM_POLICY=proven_policy().pack().decode(),
        )
        self._fill(proven)
        for place in (instance.directory, self.proven_log):
            shutil.copytree(place, self._true(place))

    @staticmethod
    def _true(place: Path) -> Path:
        return place.with_name(f"{place.name}-true")

    def _fill(self, proven: TestStore) -> None:
        """Make an instance of which every entry can be proven."""
        chains, notary = Chains(), MemoryNotary()
        with open_feeder(proven) as feeder:
            feeder.claim()
            for number in range(2):
                made = [one for n in range(number * 100, number * 100 + 100) for one in chains.event("acme", f"ev-{n}")]
                made += [
                    one for n in range(number * 100, number * 100 + 100) for one in chains.event("globex", f"g-{n}")
                ]
                feeder.feed(made)
                notary.add(made)
                notary.round()
        notary.fill(proven.url)
        self.proven_log.mkdir()
        open_objects(str(self.proven_log)).put_many(notary.objects.files.items())

    @contextmanager
    def lying(self, alter: Callable[[Path], object]) -> Generator[None]:
        """Let both storages lie for a while."""
        places = (self.instance.directory, self.proven_log)
        try:
            for place in places:
                alter(place)
            yield
        finally:
            for place in places:
                shutil.rmtree(place)
                shutil.copytree(self._true(place), place)

    def verify(self, *options: str) -> list[Report]:
        """Verify the store with the command line, and return what was found."""
        at = datetime.fromtimestamp(NOW_SECONDS, UTC).isoformat()
        shown: Any = self._verifying.json(
            "verify", "--log", str(self.instance.directory), "--at", at, "--workers", "1", *options
        )
        found = [Report("verify", one["type"], one["tenant"], one["seq"]) for one in shown["violations"]]
        if not found and shown["failure"] is not None:
            found = [Report("verify", shown["failure"]["type"])]
        assert bool(found) == bool(shown["exit_code"]), shown
        return found

    def prove(self) -> list[Report]:
        """Make the proof of an event with the command line, and return what is said against it."""
        file = self.directory / "it.sealproof"
        file.unlink(missing_ok=True)
        shown: Any = self._proving.json("proof", "acme", "--seq", str(PROVEN_SEQ), "-o", str(file))
        assert file.exists() == ("proofs" in shown), shown
        if "proofs" in shown:
            return []
        return [Report("proof", shown["type"], shown.get("tenant", ""), shown.get("seq"))]


@contextmanager
def storage_stage(database_server: str, directory: Path) -> Generator[StorageStage]:
    """Make the stage on a server."""
    with (
        fresh_database(database_server) as url,
        fresh_database(database_server) as notary,
        fresh_database(database_server) as proven_url,
        migrated(url) as store,
    ):
        migrate_notary(proven_url)
        with migrated(proven_url) as proven:
            instance = compared(store, directory / "log", notary, store.login("sealstream_writer"))
            yield StorageStage(instance, proven, directory)


def _looked_at(
    alter: Callable[[Path], object], *options: str, proves: bool = True
) -> Callable[[StorageStage], list[Report]]:
    """Let who verifies and who proves look at a storage."""

    def perform(stage: StorageStage) -> list[Report]:
        with stage.lying(alter):
            return stage.verify(*options) + (stage.prove() if proves else [])

    return perform


def _chains_swapped(place: Path) -> None:
    one, other, aside = place / "chains/acme/tile", place / "chains/globex/tile", place / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _chain_altered(place: Path) -> None:
    for tile in (place / "chains/acme/tile/0").rglob("*"):
        if tile.is_file():
            data = tile.read_bytes()
            tile.chmod(0o644)
            tile.write_bytes(bytes((data[0] ^ 1,)) + data[1:])


def _chain_withheld(place: Path) -> None:
    shutil.rmtree(place / "chains/acme/tile")


def _root_altered(place: Path) -> None:
    for tile in (place / "root/tile/0").rglob("*"):
        if tile.is_file():
            data = tile.read_bytes()
            tile.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))


def _coverages_swapped(place: Path) -> None:
    one, other = place / "root/coverage/001", place / "root/coverage/002"
    if other.exists():
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)


def _coverage_withheld(place: Path) -> None:
    (place / "root/coverage/001").unlink()


def _empty(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()


def _checkpoint(data: Callable[[Path], bytes]) -> Callable[[Path], object]:
    """Show another file for the latest root checkpoint."""

    def alter(place: Path) -> None:
        (place / ROOT_CHECKPOINT).write_bytes(data(place))

    return alter


def _older(place: Path) -> bytes:
    return (place / "root/checkpoints/002").read_bytes()


def _unwitnessed(place: Path) -> bytes:
    return without_witnesses((place / ROOT_CHECKPOINT).read_bytes())


def _of_another_log(place: Path) -> bytes:
    text = (place / ROOT_CHECKPOINT).read_bytes().partition(b"\n\n")[0] + b"\n"
    other = signer("other.example/audit")
    return sign_note(text.replace(INSTANCE.encode(), b"other.example/audit"), [other])


def _of_a_chain(place: Path) -> bytes:
    return (place / "chains/acme/checkpoint").read_bytes()


def _stale(stage: StorageStage) -> list[Report]:
    """It shows an older checkpoint, to who kept a newer one, to who asks for a fresh one, and to who does neither."""
    with stage.lying(_verifying_only(stage, _checkpoint(_older))):
        assert stage.verify() == []
        kept = stage.verify("--checkpoint", str(stage.kept))
        return kept + stage.verify("--not-older-than", "60")


def _stamped(stage: StorageStage) -> list[Report]:
    """It shows an older checkpoint's timestamp for the newest one's."""
    authority = make_authority(stage.directory / "authority")
    roots = stage.directory / "roots.pem"
    roots.write_bytes(authority.roots_pem)

    def alter(place: Path) -> None:
        if place == stage.instance.directory:
            older = (place / "root/checkpoints/002").read_bytes()
            (place / "root/timestamps").mkdir()
            (place / "root/timestamps/003").write_bytes(authority.stamp(older))
            stage.instance.forget("UPDATE sealstream_notary.rounds SET timestamp_token = 'x' WHERE round = 2")

    with stage.lying(alter):
        found = stage.verify("--require", "anchored", "--timestamp-roots", str(roots))
    stage.instance.forget("UPDATE sealstream_notary.rounds SET timestamp_token = NULL")
    return found


def _verifying_only(stage: StorageStage, alter: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda place: alter(place) if place == stage.instance.directory else None


def _of_verify(alter: Callable[[Path], object], *options: str) -> Callable[[StorageStage], list[Report]]:
    def perform(stage: StorageStage) -> list[Report]:
        with stage.lying(_verifying_only(stage, alter)):
            return stage.verify(*options)

    return perform


def _row(
    name: str, perform: Callable[[StorageStage], list[Report]], *reports: Report, not_shown: str = ""
) -> Attack[StorageStage]:
    return Attack(name, "lying server", perform, reports, not_shown)


def _finds(kind: str, tenant: str = "", seq: int | None = None) -> Report:
    return Report("verify", kind, tenant, seq)


def _unproven(kind: str, seq: int | None = PROVEN_SEQ) -> Report:
    return Report("proof", kind, "acme" if seq is not None else "", seq)


ROWS: Final[tuple[Attack[StorageStage], ...]] = (
    _row(
        "storage swaps two tenants' tiles",
        _looked_at(_chains_swapped),
        _unproven("EvidenceDamaged"),
        not_shown="verify needs no chain's tiles where the store holds: it computes the trees",
    ),
    _row("storage alters a chain's tiles", _looked_at(_chain_altered), _unproven("EvidenceDamaged")),
    _row("storage withholds a chain's tiles", _looked_at(_chain_withheld), _unproven("EvidenceDamaged")),
    _row(
        "storage alters the root log's tiles",
        _looked_at(_root_altered),
        _finds("edited", "!root"),
        _unproven("EvidenceDamaged"),
    ),
    _row("storage swaps coverages", _of_verify(_coverages_swapped), _finds("edited", "!root", 1)),
    _row("storage withholds a coverage", _of_verify(_coverage_withheld), _finds("StoreError")),
    _row("storage shows nothing", _of_verify(_empty), _finds("StoreError")),
    _row(
        "storage shows an older checkpoint",
        _stale,
        _finds("rollback", "!root", 2),
        _finds("Untrusted"),
        not_shown="who keeps no checkpoint and asks for no age takes the older one: what it does not cover is growth",
    ),
    _row(
        "storage shows a checkpoint without its witnesses",
        _of_verify(_checkpoint(_unwitnessed), "--require", "witnessed"),
        _finds("ConfigError"),
    ),
    _row(
        "storage shows another log's checkpoint", _of_verify(_checkpoint(_of_another_log)), _finds("SignatureMissing")
    ),
    _row(
        "storage shows a chain's checkpoint for the root's",
        _of_verify(_checkpoint(_of_a_chain)),
        _finds("SignatureMissing"),
    ),
    _row(
        "storage shows an endless checkpoint",
        _of_verify(_checkpoint(lambda _place: bytes(NOTE_BYTES))),
        _finds("StoreError"),
    ),
    _row(
        "storage shows a page for a checkpoint",
        _of_verify(_checkpoint(lambda _place: b"<html>")),
        _finds("NoteInvalid"),
    ),
    _row("storage shows another checkpoint's timestamp", _stamped, _finds("StoreError")),
)
