"""Proofs and bundles out of a real store, the notary's tables and a directory; checked with nothing but files."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import sql

from sealstream.schemas.bundle_check import verify_bundle
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import NotYetProvable
from sealstream.schemas.evidence import verify_proof
from sealstream.schemas.log_layout import ROOT_PREFIX, chain_prefix
from sealstream.schemas.note import sign_note
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import ProofFile
from sealstream.schemas.trust import Reader
from sealstream.sinks.notary.migrate import migrate as migrate_notary
from sealstream.sinks.notary.superseded import edge_places
from sealstream.sinks.proofs import notary_reader
from sealstream.sinks.proofs.archive import Archive
from sealstream.sinks.proofs.exporting import Exporter
from sealstream.sinks.proofs.notary_reader import NotaryReader
from sealstream.sinks.proofs.proving import Prover, Strength
from sealstream.sinks.store.reader import AuditStore
from sealstream.worker.objects import open_objects
from support.chained import Chains, Sealed
from support.memory_notary import FIRST_ROUND_SECONDS, LOG_KEY, MAP_SECRET, MemoryNotary, policy
from support.notarised import SECRET
from support.notarising import POLICY, open_log
from support.shell import Shell
from support.stores import TestStore, migrated, open_feeder


@dataclass
class Kept:
    """An instance whose store, notary's database and storage are real; what a notary did was done by hand."""

    store: TestStore
    notary: MemoryNotary
    log: list[Sealed]
    folder: Path
    storage: Path
    policy: Path

    def shell(self) -> Shell:
        """Return a shell with the settings of the place where proofs are made."""
        return Shell(
            SEALSTREAM_DATABASE=self.store.reader("*"),
            SEALSTREAM_NOTARY_DATABASE=self.store.login("sealstream_notary_reader"),
            SEALSTREAM_LOG_STORAGE=str(self.storage),
            SEALSTREAM_MAP_SECRET=MAP_SECRET.hex(),
            SEALSTREAM_POLICY_FILE=str(self.policy),
        )

    def prover(self, store: AuditStore) -> Prover:
        """Return a prover in this process."""
        database = NotaryReader(self.store.login("sealstream_notary_reader"))
        return Prover(store, Archive(database, open_objects(str(self.storage))), map_secret=MAP_SECRET, policy=policy())

    def publish(self) -> None:
        """Write what the notary has to its tables and to the storage."""
        self.notary.fill(self.store.url)
        open_objects(str(self.storage)).put_many(self.notary.objects.files.items())


@pytest.fixture
def kept(database_url: str, tmp_path: Path) -> Iterator[Kept]:
    """Three rounds of two tenants, and an event that no round has yet."""
    storage, policy_file = tmp_path / "log", tmp_path / "policy"
    storage.mkdir()
    policy_file.write_bytes(policy().pack())
    chains, notary = Chains(), MemoryNotary()
    log: list[Sealed] = []
    for number in range(3):
        made = [record for n in range(number * 100, number * 100 + 100) for record in chains.event("acme", f"ev-{n}")]
        made += chains.event("globex", "ev-1")
        notary.add(made)
        notary.round()
        log += made
    log += chains.event("acme", "fresh")
    migrate_notary(database_url)
    with migrated(database_url) as store:
        with open_feeder(store) as feeder:
            feeder.claim()
            feeder.feed(log)
        instance = Kept(store, notary, log, tmp_path, storage, policy_file)
        instance.publish()
        yield instance


def test_proof_is_made_and_checked_elsewhere(kept: Kept) -> None:
    """A proof goes from the command to a file, and is believed by who has that file and a policy, and nothing else."""
    shell, file = kept.shell(), kept.folder / "it.sealproof"
    made = shell.run("proof", "acme", "ev-150", "-o", str(file))
    assert (made.returncode, made.stderr) == (0, "")
    assert f"sealstream verify-proof {file} --policy" in made.stdout
    assert "level\twitnessed" in made.stdout
    shown = Shell().json("verify-proof", str(file), "--policy", str(kept.policy))
    assert (shown["level"], shown["tenant"], shown["event_id"], shown["seq"]) == ("witnessed", "acme", "ev-150", 151)
    at = [datetime.fromtimestamp(FIRST_ROUND_SECONDS + n * 60 + 1, UTC).isoformat() for n in (0, 1)]
    assert {one["time"] for one in shown["in_log_after"]} == {at[0]}
    assert {one["time"] for one in shown["in_log_by"]} == {at[1]}
    assert (file.stat().st_mode & 0o777, list(kept.folder.glob(".*"))) == (0o600, [])


def test_several_records_are_several_files(kept: Kept) -> None:
    """An id that stands in a chain more than once gives a file each, and none of them replaces another file."""
    shell, file = kept.shell(), kept.folder / "it.sealproof"
    made = shell.json("proof", "globex", "ev-1", "-o", str(file))
    names = [Path(one["file"]).name for one in made["proofs"]]
    assert names == [f"it-{seq}.sealproof" for seq in (1, 2, 3)]
    assert [ProofFile.parse((kept.folder / name).read_bytes()).parsed_entry().seq for name in names] == [1, 2, 3]
    again = shell.run("proof", "globex", "ev-1", "-o", str(file))
    assert (again.returncode, "is there already" in again.stderr, "--force" in again.stderr) == (2, True, True)
    assert shell.run("proof", "globex", "ev-1", "-o", str(file), "--force").returncode == 0
    (one,) = shell.json("proof", "globex", "ev-1", "--seq", "2", "-o", str(file))["proofs"]
    assert (one["file"], one["seq"]) == (str(file), 2)
    wrong = shell.run("proof", "globex", "ev-2", "--seq", "2", "-o", str(kept.folder / "other"))
    assert (wrong.returncode, "it is of ev-1" in wrong.stderr) == (2, True)


def test_what_cannot_be_proven_is_said(kept: Kept) -> None:
    """A fresh event, an unknown one, a missing setting and a missing anchor each have their own words, and no file."""
    shell, file = kept.shell(), kept.folder / "it.sealproof"
    for arguments, words in (
        (("acme", "fresh"), "cannot be proven yet: no round of the root log has it yet"),
        (("acme", "nothing"), "the store has no event nothing of tenant acme"),
        (("acme", "ev-1", "--level", "anchored"), "timestamped"),
        (("acme",), "neither an event's id nor --seq"),
    ):
        found = shell.run("proof", *arguments, "-o", str(file))
        assert (found.returncode, words in found.stderr) == (2, True), found.stderr
    shell.environment.pop("SEALSTREAM_MAP_SECRET")
    found = shell.run("proof", "acme", "ev-1", "-o", str(file))
    assert (found.returncode, "SEALSTREAM_MAP_SECRET is not set" in found.stderr) == (2, True)
    assert not file.exists()


def test_damaged_storage_gives_no_proof(kept: Kept) -> None:
    """What storage or store have edited is named with tenant and seq, with exit code 1, and no file is written."""
    shell, file = kept.shell(), kept.folder / "it.sealproof"
    tile = next(path for path in (kept.storage / "chains/acme/tile/0").rglob("*") if path.name == "45")
    data = tile.read_bytes()
    tile.chmod(0o644)
    tile.write_bytes(bytes((data[0] ^ 1,)) + data[1:])
    kept.store.tamper("UPDATE sealstream.entries SET hash = sha256(hash) WHERE tenant = 'acme' AND seq = 7")
    for event_id, words in (("ev-290", "tenant acme seq 291: the stored entry"), ("ev-6", "tenant acme seq 7")):
        found = shell.run("proof", "acme", event_id, "-o", str(file))
        assert (found.returncode, words in found.stderr) == (1, True), found.stderr
    assert not file.exists()
    exported = shell.run("export", "--tenant", "acme", "-o", str(file))
    assert (exported.returncode, "tenant acme seq 7" in exported.stderr) == (1, True)
    assert [path.name for path in kept.folder.iterdir() if path.is_file()] == ["policy"]


def test_bundle_is_exported_and_checked_elsewhere(kept: Kept) -> None:
    """A bundle goes from the command to a file, and is checked by who has that file and a policy, and nothing else."""
    shell, file = kept.shell(), kept.folder / "acme.sealbundle.jsonl"
    made = shell.run("export", "--tenant", "acme", "--from", "5", "-o", str(file))
    assert (made.returncode, made.stderr) == (0, "")
    assert "296: complete from seq 5 to 300" in made.stdout
    auditor = Shell()
    judged = ("--policy", str(kept.policy))
    clean = auditor.run("verify", str(file), *judged)
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "clean: acme is complete from seq 5 to 300: 296 entries hold" in clean.stdout
    found = auditor.json("verify", str(file), *judged, "--require", "witnessed")
    assert (found["exit_code"], found["complete"], found["level"]) == (0, True, "witnessed")
    assert auditor.run("verify", str(file), *judged, "--require", "anchored").returncode == 2
    unsaid = auditor.run("verify", str(file))
    assert (unsaid.returncode, "whom to believe" in unsaid.stderr) == (2, True)
    mixed = auditor.run("verify", str(file), *judged, "--from", "6")
    assert (mixed.returncode, "as a whole" in mixed.stderr) == (2, True)
    instance = found["checkpoint"]["origin"]
    asked = auditor.json("verify", str(file), *judged, "--tenant", "acme", "--instance", instance)
    assert (asked["exit_code"], asked["tenant"]) == (0, "acme")
    for other, kind in (("--tenant", "EventDiffers"), ("--instance", "OriginDiffers")):
        found = auditor.json("verify", str(file), *judged, other, "globex")
        assert (found["exit_code"], found["failure"]["type"]) == (2, kind)
    unbundled = auditor.run("verify", "--instance", instance)
    assert (unbundled.returncode, "no bundle is given" in unbundled.stderr) == (2, True)
    lines = file.read_bytes().splitlines(keepends=True)
    edited = kept.folder / "edited"
    edited.write_bytes(b"".join((*lines[:50], *lines[51:])))
    removed = json.loads(lines[50])["seq"]
    found = auditor.json("verify", str(edited), *judged)
    assert [(one["type"], one["tenant"], one["seq"]) for one in found["violations"]] == [("gap", "acme", removed)]
    assert auditor.run("verify", str(kept.folder / "none"), *judged).returncode == 2


def test_part_is_chosen_by_time(kept: Kept) -> None:
    """From and to may be times: what was received between them is in the bundle."""
    shell, file = kept.shell(), kept.folder / "part"
    with AuditStore(kept.store.reader("*")) as store:
        begin, end = (store.get_record("acme", seq).received.isoformat() for seq in (20, 30))
    made = shell.json("export", "--tenant", "acme", "--from", begin, "--to", end, "-o", str(file))
    assert (made["first"], made["last"], made["entries"], made["payloads"]) == (20, 29, 10, 10)
    none = shell.run("export", "--tenant", "acme", "--from", "2100-01-01", "-o", str(kept.folder / "other"))
    assert (none.returncode, "in that time" in none.stderr) == (2, True)
    wrong = shell.run("export", "--tenant", "acme", "--from", "soon", "-o", str(kept.folder / "other"))
    assert (wrong.returncode, "no ISO 8601 time" in wrong.stderr) == (2, True)


def test_new_rounds_and_pruned_maps_are_followed(kept: Kept) -> None:
    """A prover that runs on sees new rounds when it needs them, and does without maps that were pruned meanwhile."""
    with AuditStore(kept.store.reader("*")) as store, kept.prover(store) as prover:
        assert prover.get_record_proof("acme", 5).proof.rooted.round == 0
        with pytest.raises(NotYetProvable):
            prover.get_event_proof("acme", "fresh")
        kept.notary.add(kept.log[-1:])
        kept.notary.round()
        kept.notary.prune(0)
        kept.publish()
        assert prover.get_event_proof("acme", "fresh")[0].proof.rooted.round == 3
        assert prover.get_record_proof("acme", 5).proof.rooted.round in (0, 1)
    with AuditStore(kept.store.reader("*")) as store, kept.prover(store) as prover:
        assert prover.get_record_proof("acme", 5).proof.rooted.round == 1


def test_partial_tiles_may_be_erased(kept: Kept) -> None:
    """Once a tile is full its partial ones may go: proofs of older rounds are made from the full one."""
    for path in (kept.storage / "chains/acme/tile/0").glob("000.p"):
        shutil.rmtree(path)
    with AuditStore(kept.store.reader("*")) as store, kept.prover(store) as prover:
        assert [prover.get_record_proof("acme", seq).proof.rooted.round for seq in (0, 100, 101)] == [0, 0, 1]


def test_partial_tiles_that_were_replaced_may_be_erased(kept: Kept) -> None:
    """Proofs of older rounds are made from the newest partial tiles once those of their own size are gone."""
    objects = open_objects(str(kept.storage))
    sizes = {chain_prefix(chain): len(hashes) for chain, hashes in kept.notary.hashes.items()}
    for prefix, size in (sizes | {ROOT_PREFIX: len(kept.notary.rounds)}).items():
        newest = {prefix + place.path() for place in edge_places(size)}
        objects.put(f"{prefix}checkpoint", sign_note(Checkpoint("any", size, bytes(32)).pack(), [LOG_KEY]))
        erased = [path for path in objects.list(prefix) if ".p/" in path and path not in newest]
        assert erased
        objects.delete_many(erased)
    with AuditStore(kept.store.reader("*")) as store, kept.prover(store) as prover:
        assert [prover.get_record_proof("acme", seq).proof.rooted.round for seq in (0, 100, 101)] == [0, 0, 1]
        assert [prover.get_record_proof("globex", seq).proof.rooted.round for seq in (0, 2)] == [0, 1]


def test_reader_of_the_notary_may_change_nothing(kept: Kept) -> None:
    """Proofs are made by a login that cannot write what they are made from."""
    (row,) = kept.store.query(
        "SELECT has_table_privilege('sealstream_notary_reader', 'sealstream_notary.rounds', 'SELECT'),"
        " has_table_privilege('sealstream_notary_reader', 'sealstream_notary.rounds', 'INSERT, UPDATE, DELETE')"
    )
    assert row == (True, False)
    database = NotaryReader(kept.store.login("sealstream_notary_reader"))
    assert database.rows(sql.SQL("SELECT current_setting('transaction_read_only')")) == [("on",)]
    database.close()


def test_connection_that_broke_while_nobody_used_it_is_replaced(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart of the server the next proof is made as if nothing had happened."""
    with AuditStore(kept.store.reader("*")) as store, kept.prover(store) as prover:
        prover.get_record_proof("acme", 5)
        kept.store.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sealstream-proofs'"
        )
        monkeypatch.setattr(notary_reader, "_TRUSTED_SECONDS", 0.0)  # as if some time had passed
        assert prover.get_record_proof("acme", 250).proof.rooted.round == 2


def test_what_the_notary_leaves_behind_is_what_proofs_are_made_from(database_url: str, tmp_path: Path) -> None:
    """Proofs and bundles come out of the real notary's tables and files, of several rounds and restarts."""
    judged = Policy.parse(POLICY.encode())
    judge = Reader(judged, int(time.time()))
    with open_log(database_url, tmp_path) as log:
        for count in (3, 300, 1):
            log.feed(log.chains.events(2, count))
            assert log.round(log.notary())
        objects = open_objects(str(log.directory))
        archive = Archive(NotaryReader(log.test_store.login("sealstream_notary_reader")), objects)
        with AuditStore(log.reader_url) as store, Prover(store, archive, map_secret=SECRET, policy=judged) as prover:
            rounds: set[int] = set()
            for head in store.tenants():
                for seq in range(0, head.seq + 1, 7):
                    made = prover.get_record_proof(head.tenant, seq)
                    rounds.add(made.proof.rooted.round)
                    shown = verify_proof(ProofFile.parse(made.proof.pack()), judge)
                    assert (shown.entry.tenant, shown.entry.seq) == (head.tenant, seq)
                file = io.BytesIO()
                Exporter(prover, store).write(file, head.tenant, 1, head.seq)
                file.seek(0)
                assert verify_bundle(file.readline, judge).entries == head.seq
            assert rounds == {0, 1}
            assert prover.provable_size("tenant-0", Strength.WITNESSED) == 153
