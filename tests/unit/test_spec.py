"""SPEC.md is right: its tables say what the code does, and its test vectors come out of the code."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from typing import Any

import pytest

from sealstream.kafka.partition import murmur2, partition_of
from sealstream.kafka.topics import DAY_SECONDS, TopicNames, topic_table
from sealstream.schemas.chain import Link, verify_chain
from sealstream.schemas.codec import (
    EventReader,
    body_start,
    encode_event,
    event_from_datum,
    read_prefix,
    schema,
    schema_fingerprint,
    schema_text,
)
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    EVENT_ID_PATTERN,
    INSTANCE_PATTERN,
    TENANT_PATTERN,
    VALUE_BYTES_MAX,
    GapReason,
    Genesis,
    Kind,
    Quarantine,
    entry_hash,
    pack,
    parse,
    parse_epoch_payload,
    parse_gap_payload,
    payload_digest,
)
from sealstream.schemas.errors import FrameInvalid
from sealstream.schemas.merkle import root
from sealstream.schemas.violation import Violation, ViolationType
from support import spec
from support.model import Model

TOPIC_ID = bytes(range(16))
DESIGN_ENTRIES = 5
ENTRIES = spec.entries()
BLOCKS = {
    "body", "chains", "digests", "entries", "entry", "event", "fingerprints", "frames", "genesis", "murmur2",
    "prefixes", "records", "roots", "values", "violations",
    # In test_spec_trees.py:
    "consistencies", "inclusions", "map", "rounds", "tile_paths", "tiles", "tree_roots",
    # In test_spec_notes.py:
    "checkpoint", "log_proof", "messages", "note_keys", "policy", "rotation", "tenant_names", "vkeys",
    # In test_spec_proofs.py:
    "proof_files", "proof_policy",
    # In test_spec_bundle.py:
    "bundle",
    # In test_spec_control.py:
    "control_declared", "control_import_begin", "control_import_end", "control_key", "control_schema", "control_signed",
    "source_rows",
}  # fmt: skip


def datum() -> dict[str, Any]:
    """Return the event of the page as the schema's writer takes it."""
    (block,) = spec.blocks("event")
    loaded: dict[str, Any] = json.loads(block)
    loaded["salt"] = bytes.fromhex(loaded["salt"])
    loaded["occurred_at"] = datetime.fromisoformat(loaded["occurred_at"])
    return loaded


class TestVectors:
    """What is given comes out of the code."""

    def test_every_block_is_tested(self) -> None:
        """No block stands in the page that no test reads."""
        assert spec.block_names() == BLOCKS
        assert "{{" not in spec.text()

    def test_murmur2(self) -> None:
        """The hash of each key, and its partition."""
        for key, signed, of_4, of_12 in spec.rows("murmur2"):
            data = spec.unhex(key)
            assert murmur2(data) == int(signed) % 2**32, key
            assert (partition_of(data, 4), partition_of(data, 12)) == (int(of_4), int(of_12))

    def test_digests(self) -> None:
        """The digest of each payload."""
        for payload, digest in spec.rows("digests"):
            assert payload_digest(spec.unhex(payload)).hex() == digest

    def test_fingerprints(self) -> None:
        """The fingerprints of the schemas that ship."""
        for name, fingerprint in spec.rows("fingerprints"):
            assert schema_fingerprint(name).hex() == fingerprint

    def test_prefixes(self) -> None:
        """Each prefix is read as given, or is malformed."""
        found = {"read": 0, "malformed": 0}
        for value, *words in spec.rows("prefixes"):
            data = spec.unhex(value)
            if words[0] == "malformed:":
                found["malformed"] += 1
                with pytest.raises(FrameInvalid):
                    read_prefix(data)
            else:
                found["read"] += 1
                event_id, tenant, kind = words
                assert read_prefix(data) == (spec.unhex(event_id), spec.unhex(tenant), int(kind))
        assert min(found.values()) >= 5

    def test_event(self) -> None:
        """The event has the body given, in each frame."""
        event = event_from_datum(datum())
        event.check()
        body = bytes.fromhex("".join(spec.blocks("body")))
        frames = dict(spec.rows("frames"))
        assert encode_event(event) == bytes.fromhex(frames.pop("single-object")) + body
        for name, frame in frames.items():
            schema_id = int(name.removeprefix("confluent-"))
            value = encode_event(event, schema_id=schema_id)
            assert (value[: body_start(value)].hex(), value[body_start(value) :]) == (frame, body)
            assert EventReader(schema_by_id=lambda _: schema("AuditEvent")).read(value) == event

    @pytest.mark.parametrize("given", ENTRIES, ids=lambda given: f"{given.entry.tenant}-{given.entry.seq}")
    def test_entry(self, given: spec.SpecifiedEntry) -> None:
        """Each entry packs to its bytes and parses back, and its payload and hash are those given."""
        assert pack(given.entry) == given.data
        assert parse(given.data) == given.entry
        assert entry_hash(given.data) == given.hash
        assert (payload_digest(given.value), len(given.value)) == (given.entry.payload, given.entry.length)

    def test_every_kind_and_reason(self) -> None:
        """There is an entry of each kind, and of each reason of kinds 4 and 7."""
        expected = {(kind, 0) for kind in set(Kind) - {Kind.QUARANTINED, Kind.GAP}}
        expected |= {(Kind.QUARANTINED, reason) for reason in Quarantine}
        expected |= {(Kind.GAP, reason) for reason in GapReason}
        assert {(given.entry.kind, given.entry.reason) for given in ENTRIES[DESIGN_ENTRIES:]} == expected

    def test_own_payloads(self) -> None:
        """The payloads of genesis, gap and epoch entries have their form and say what their entries say."""
        for given in ENTRIES:
            if given.entry.kind is Kind.GENESIS:
                assert Genesis.parse(given.value).payload() == given.value
            elif given.entry.kind is Kind.GAP:
                assert parse_gap_payload(given.value)[0] == given.entry.offset
            elif given.entry.kind is Kind.EPOCH:
                genesis, previous = parse_epoch_payload(given.value)
                assert (previous, partition_of(b"acme", genesis.partitions)) == (TOPIC_ID, given.entry.partition)

    def test_short_chain(self) -> None:
        """The short chain verifies, and has the roots given."""
        chain = ENTRIES[:DESIGN_ENTRIES]
        links = [
            Link(seq, given.data, given.value if given.entry.kind in CARRIED_KINDS else None, given.hash)
            for seq, given in enumerate(chain)
        ]
        assert verify_chain("acme", links) == []
        hashes = [given.hash for given in chain]
        for size, expected in spec.rows("roots"):
            assert root(hashes[: int(size)]).hex() == expected
        assert root(hashes).hex() == "56735eade6ae7b44be86c95637bd6a8da94688d496fd2296b5f7cfcaa5b9a573"

    def test_violations(self) -> None:
        """Each violation has the id given."""
        (block,) = spec.blocks("violations")
        lines = block.splitlines()
        for array, expected in zip(lines[::2], lines[1::2], strict=True):
            label, instance, kind, tenant, seq, topic_id, partition, offset, found = json.loads(array)
            violation = Violation(
                type=ViolationType(kind),
                tenant=tenant,
                message="",
                seq=int(seq) if seq else None,
                partition=int(partition),
                offset=int(offset) if offset else None,
                topic_id=bytes.fromhex(topic_id),
                instance=instance,
                found=found,
            )
            assert (label, violation.id) == ("sealstream/violation1", expected)


class TestSourcePartition:
    """The partition of section 11.6 becomes what is given there."""

    def test_genesis(self) -> None:
        """The genesis is one that can be pinned."""
        (block,) = spec.blocks("genesis")
        assert Genesis.parse(block.encode()) == Genesis("spec.example/audit", 4, 8, 60)

    def test_model(self) -> None:
        """The plain model of the rules makes these entries of these records, and no others."""
        (block,) = spec.blocks("genesis")
        made = Model(Genesis.parse(block.encode()), TOPIC_ID, 0).expect(spec.source_records())
        found: list[spec.SpecifiedLink] = []
        for record in made:
            entry = parse(record.entry)
            place = (entry.offset, entry.tenant, entry.seq, int(entry.kind), entry.reason, entry.ref)
            found.append(spec.SpecifiedLink(*place, entry.event_id, entry.received, record.hash))
        assert found == spec.links()

    def test_chains(self) -> None:
        """The chains have the sizes and roots given."""
        for name, size, expected in spec.rows("chains"):
            hashes = [link.hash for link in spec.links() if link.chain == name]
            assert (len(hashes), root(hashes).hex()) == (int(size), expected)

    def test_entries_in_full(self) -> None:
        """The entries that are given field by field are those of the partition, or go on behind them."""
        known = {(link.chain, link.seq): link.hash for link in spec.links()}
        behind = dict.fromkeys((link.chain for link in spec.links()), 0)
        for given in ENTRIES[DESIGN_ENTRIES:]:
            name, seq = given.entry.tenant, given.entry.seq
            if (name, seq) not in known:
                behind[name] += 1
                assert known[name, seq - 1] == given.entry.prev
                known[name, seq] = given.hash
            assert known[name, seq] == given.hash
        assert behind == {"acme": 1, "!partition-0": 3, "stark": 0}

    def test_edges_are_there(self) -> None:
        """Removing a second or an offset from the window changes what the partition becomes: it tests both edges."""
        (block,) = spec.blocks("genesis")
        genesis = Genesis.parse(block.encode())
        kinds = {(link.offset, link.kind) for link in spec.links()}
        for other in (
            replace(genesis, window_offsets=7),
            replace(genesis, window_offsets=9),
            replace(genesis, window_seconds=59),
            replace(genesis, window_seconds=61),
        ):
            made = [parse(record.entry) for record in Model(other, TOPIC_ID, 0).expect(spec.source_records())]
            assert {(entry.offset, int(entry.kind)) for entry in made} != kinds


class TestTables:
    """What the tables say is what the code does."""

    def test_contents(self) -> None:
        """The table of contents names each section and leads to it."""
        listed = re.findall(r"^[0-9]+\. \[(.+)\]\(#([0-9]+)-(.+)\)$", spec.text(), re.MULTILINE)
        sections = re.findall(r"^## ([0-9]+)\. (.+)$", spec.text(), re.MULTILINE)
        assert [(number, title) for title, number, _ in listed] == sections
        for title, _, anchor in listed:
            assert anchor == re.sub(r"[^a-z0-9 ]", "", title.lower()).replace(" ", "-")

    def test_names(self) -> None:
        """The patterns of names."""
        patterns = {name: words.strip("`") for name, words, _ in spec.table("## 2. Names")}
        assert patterns["tenant"].encode() == TENANT_PATTERN.pattern
        assert patterns["event id"].encode() == EVENT_ID_PATTERN.pattern
        assert patterns["instance"] == INSTANCE_PATTERN.pattern

    def test_prefix_is_the_schemas(self) -> None:
        """The shipped schema begins with the four fields that every version begins with."""
        fields = json.loads(schema_text("AuditEvent"))["fields"][:4]
        assert [field["name"] for field in fields] == ["id", "tenant", "kind", "salt"]
        assert [field["type"] for field in fields[:2]] == ["string", "string"]
        assert fields[2]["type"]["symbols"] == ["event", "imported", "control"]
        assert (fields[3]["type"]["type"], fields[3]["type"]["size"]) == ("fixed", 16)

    def test_layout(self) -> None:
        """The fields have the order and the sizes of an entry's bytes."""
        sizes = [size for _, size, _ in spec.table("## 5. The entry")]
        variable = sum(int(size.removesuffix(" + n")) for size in sizes)
        given = ENTRIES[1]
        assert len(given.data) == variable + len(given.entry.tenant) + len(given.entry.event_id)

    def test_kinds(self) -> None:
        """The kinds by number, and which of them are carried."""
        kinds = spec.table("## 5. The entry", 1)
        assert [(int(row[0]), row[1].upper()) for row in kinds] == [(int(kind), kind.name) for kind in Kind]
        assert {Kind(int(row[0])) for row in kinds if row[4] == "yes"} == CARRIED_KINDS

    def test_reasons(self) -> None:
        """The reasons by number."""
        rows = spec.table("## 5. The entry", 2)
        assert [int(row[0]) for row in rows] == [int(reason) for reason in Quarantine]
        gaps = [(int(row[2]), row[3].split(":")[0].upper()) for row in rows if row[2]]
        assert gaps == [(int(reason), reason.name) for reason in GapReason]
        checks = spec.table("### 7.2 Checks")
        assert [int(row[0]) for row in checks] == [int(reason) for reason in Quarantine]
        assert f"{VALUE_BYTES_MAX:,} bytes" in checks[3][1]

    def test_dead_letter_reasons(self) -> None:
        """The reasons have these names in a dead letter's headers."""
        names = {row[0]: row[1] for row in spec.table("## 8. Topics and headers", 1)}["`reason-name`"]
        expected = [reason.name.lower().replace("_", "-") for reason in Quarantine]
        assert re.findall(r"`([a-z-]+)`", names) == expected

    def test_topics(self) -> None:
        """The topics, and the settings that each must have."""
        rows = spec.table("## 8. Topics and headers")
        made = topic_table(TopicNames(), partitions=7, window_seconds=DAY_SECONDS)
        assert [row[0] for row in rows] == [topic.name for topic in made]
        for row, topic in zip(rows, made, strict=True):
            assert {"P": 7, "1": 1}[row[4]] == topic.partitions
            for setting in row[5].split(", "):
                if "=" in setting and ">=" not in setting:
                    name, _, value = setting.partition("=")
                    assert topic.config[name] == value, (topic.name, name)
            assert ("retention.ms" in topic.config_min) == ("retention.ms >=" in row[5] or "same retention" in row[5])
            assert (topic.config["cleanup.policy"] == "compact") == ("compacted" in row[5])

    def test_violation_types(self) -> None:
        """The types of violations."""
        rows = spec.table("## 10. Violations")
        assert [row[0].strip("`") for row in rows] == [kind.value for kind in ViolationType]

    def test_schemas(self) -> None:
        """The page gives the fingerprint of every schema that ships."""
        shipped = {path.name.removesuffix(".avsc") for path in files("sealstream.schemas").joinpath("avro").iterdir()}
        assert {name for name, _ in spec.rows("fingerprints")} == shipped
