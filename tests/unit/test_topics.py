"""The table of topics, line by line, and the names that topics may have."""

from __future__ import annotations

import pytest

from sealstream.kafka import topics
from sealstream.kafka.topics import DAY_SECONDS, TopicNames, TopicSpec, topic_table
from sealstream.schemas.entry import VALUE_BYTES_MAX
from sealstream.schemas.errors import ConfigError

PARTITIONS = 7
WINDOW_SECONDS = 3600
TABLE = {spec.name: spec for spec in topic_table(TopicNames(), partitions=PARTITIONS, window_seconds=WINDOW_SECONDS)}
RETENTION_MS = (WINDOW_SECONDS + 2 * DAY_SECONDS) * 1000
MIB = 1024 * 1024
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": str(64 * MIB),
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.1",
}
FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@pytest.mark.parametrize(
    "spec",
    [
        TopicSpec(
            "audit.events",
            PARTITIONS,
            {
                "cleanup.policy": "delete",
                "message.timestamp.type": "LogAppendTime",
                "max.message.bytes": str(MIB),
                "retention.bytes": "-1",
            },
            {"retention.ms": RETENTION_MS},
        ),
        TopicSpec(
            "audit.chained",
            PARTITIONS,
            {"cleanup.policy": "delete", "max.message.bytes": str(2 * MIB), "retention.bytes": "-1"},
            {"retention.ms": RETENTION_MS},
        ),
        TopicSpec("audit.heads", PARTITIONS, COMPACTED, {}),
        TopicSpec("audit.deadletter", PARTITIONS, {"cleanup.policy": "delete", "max.message.bytes": str(2 * MIB)}, {}),
        TopicSpec("audit.verified", PARTITIONS, {"cleanup.policy": "delete", "max.message.bytes": str(2 * MIB)}, {}),
        TopicSpec("audit.verifier", PARTITIONS, COMPACTED, {}),
        TopicSpec("audit.violations", 1, FOR_EVER, {}),
        TopicSpec("audit.checkpoints", 1, FOR_EVER, {}),
    ],
    ids=lambda spec: spec.name,
)
def test_line(spec: TopicSpec) -> None:
    """Each topic has the partitions and the settings of its line."""
    assert TABLE[spec.name] == spec


def test_no_other_lines() -> None:
    """There are these topics and no others."""
    assert len(TABLE) == 8


def test_window_outlives_itself() -> None:
    """The longer the window, the longer the records that it is restored from are kept."""
    longer = topic_table(TopicNames(), partitions=1, window_seconds=10 * DAY_SECONDS)
    assert longer[0].config_min["retention.ms"] == longer[1].config_min["retention.ms"] == 12 * DAY_SECONDS * 1000


def test_largest_event_fits_with_its_seal() -> None:
    """The largest value that is chained fits the source, and with its seal, key and headers the output."""
    entry_bytes_max = 12 + 4 + 64 + 8 + 32 + 8 + 16 + 4 + 8 + 8 + 1 + 128 + 4 + 32
    headers_bytes_max = 2 * entry_bytes_max + 1024
    assert VALUE_BYTES_MAX + 1024 < topics.EVENT_BYTES_MAX
    assert VALUE_BYTES_MAX + headers_bytes_max < topics.SEALED_BYTES_MAX
    assert topics.DEAD_LETTER_BYTES_MAX + 4096 < topics.SEALED_BYTES_MAX


def test_headers() -> None:
    """The headers have the names that readers look for."""
    names = (
        topics.SEAL_ENTRY_HEADER,
        topics.SEAL_SEQ_HEADER,
        topics.SEAL_HASH_HEADER,
        topics.SEAL_PREV_HEADER,
        topics.CE_ID_HEADER,
        topics.TRACEPARENT_HEADER,
    )
    assert names == ("seal-entry", "seal-seq", "seal-hash", "seal-prev", "ce_id", "traceparent")


def test_names() -> None:
    """Topics are named by prefix and word; from the second epoch on with a suffix, except what spans epochs."""
    first, second = TopicNames(), TopicNames(prefix="x-", epoch=2)
    names = ("events", "chained", "heads", "deadletter", "verified", "verifier", "violations", "checkpoints")
    assert [getattr(first, name) for name in names] == [f"audit.{name}" for name in names]
    for name in names:
        suffix = "" if name in ("violations", "checkpoints") else ".e2"
        assert getattr(second, name) == f"x-{name}{suffix}"


@pytest.mark.parametrize("prefix", ["", ".", "-a", "a b", "a/", "ä", "a" * 101, "a\n"])
def test_refused_prefixes(prefix: str) -> None:
    """A prefix that cannot begin a topic's name is refused, with what would be right."""
    with pytest.raises(ConfigError, match="topic prefix") as caught:
        TopicNames(prefix=prefix)
    assert caught.value.hint


def test_refused_epochs() -> None:
    """Epochs count from 1."""
    with pytest.raises(ConfigError, match="epoch 0"):
        TopicNames(epoch=0)


def test_longest_name_is_legal() -> None:
    """The longest prefix and a large epoch still give names that Kafka takes (249 characters)."""
    names = TopicNames(prefix="a" * 100, epoch=10**9)
    assert max(len(spec.name) for spec in topic_table(names, partitions=1, window_seconds=1)) <= 249
