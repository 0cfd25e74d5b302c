"""Publishing checkpoints: in a directory and on a real topic, in their order, and never a smaller one than before."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicSpec
from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.errors import (
    ConfigError,
    OriginDiffers,
    RolledBack,
    SignatureMissing,
    StoreError,
    TreeDiffers,
    Unreachable,
)
from sealstream.schemas.log_layout import root_checkpoint_path
from sealstream.schemas.note import sign_note, verify_note
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.sinks.notary import checkpoint_topic
from sealstream.sinks.notary.checkpoint_topic import CheckpointTopic
from sealstream.sinks.notary.publishing import POINTS, ChainState, Publisher
from sealstream.sinks.notary.signing import LogSigner
from sealstream.worker.failpoints import FailpointReached, Failpoints
from sealstream.worker.objects import Objects, open_objects
from support.harness import read_log
from support.notes import LOG, ORIGIN, cosigned, signer

NOW_SECONDS = 1_700_000_000
TIMEOUT_SECONDS = 60.0


def digest(text: str) -> bytes:
    """Return a root."""
    return hashlib.sha256(text.encode()).digest()


class Place:
    """A directory and a topic of a test's own."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        directory.mkdir()
        self.objects: Objects = open_objects(str(directory))
        self.bootstrap = bootstrap
        self.name = f"t-{uuid.uuid4().hex[:8]}.checkpoints"
        TopicAdmin(KafkaConnection(bootstrap)).create([TopicSpec(self.name, 1, {}, {})], replication=1)

    def topic(self, *, timeout_seconds: float = TIMEOUT_SECONDS) -> CheckpointTopic:
        """Return a client of the topic."""
        connection = KafkaConnection(self.bootstrap)
        return CheckpointTopic(connection, topic=self.name, client_id="test", timeout_seconds=timeout_seconds)

    def publisher(self, *keys: SignerKey, failing: str = "") -> Publisher:
        """Return a publisher, as one that has just started."""
        points = Failpoints(f"{failing}=raise" if failing else "", names=POINTS)
        log_signer = LogSigner(ORIGIN, keys or (LOG,))
        return Publisher(self.objects, self.topic(), log_signer, instance=ORIGIN, points=points)

    def records(self) -> list[tuple[str, bytes]]:
        """Return all records of the topic."""
        found = read_log(KafkaConnection(self.bootstrap), self.name, 1)[0]
        return [((one.key or b"").decode(), one.value or b"") for one in found]


@pytest.fixture
def place(kafka_bootstrap: str, tmp_path: Path) -> Place:
    """A place to publish at."""
    return Place(kafka_bootstrap, tmp_path / "log")


def root_note(size: int, root: str = "root") -> bytes:
    """Return a root checkpoint with a witness's cosignature."""
    return cosigned({1: NOW_SECONDS}, checkpoint=Checkpoint(ORIGIN, size, digest(root)))


def test_where_everything_is(place: Place) -> None:
    """Who looks in the storage or reads the topic finds the same notes, the root's last; chains are signed by name."""
    note = root_note(7)
    chains = [ChainState(name, size, digest(name)) for size, name in enumerate(("Acme", "!partition-0"), 3)]
    publisher = place.publisher()
    publisher.offer(note)
    assert (place.objects.list(""), place.objects.get("root/unwitnessed")) == (["root/unwitnessed"], note)
    publisher.publish(note, chains, time_seconds=NOW_SECONDS)

    assert place.objects.get("root/checkpoint") == place.objects.get(root_checkpoint_path(7)) == note
    records = place.records()
    assert records[-1] == (ORIGIN, note)
    for one, path, (origin, chain_note) in zip(
        chains, ("chains/_acme/checkpoint", "chains/_1partition-0/checkpoint"), records, strict=False
    ):
        assert origin == chain_origin(ORIGIN, one.chain)
        assert place.objects.get(path) == chain_note
        verified = verify_note(chain_note, [LOG.verifier.renamed(origin)])
        assert Checkpoint.parse(verified.text) == Checkpoint(origin, one.size, one.root)
    assert len(records) == 3


@pytest.mark.parametrize("point", POINTS)
def test_published_again_after_a_crash(point: str, place: Place) -> None:
    """Wherever a notary died: publishing again comes to the same files, and adds nothing to the topic but the same."""
    note, chains = root_note(7), [ChainState("acme", 3, digest("acme"))]
    dying = place.publisher(failing=point)

    def publish(publisher: Publisher) -> None:
        publisher.offer(note)
        publisher.publish(note, chains, time_seconds=NOW_SECONDS)

    with pytest.raises(FailpointReached):
        publish(dying)
    publish(place.publisher())
    assert len(place.objects.list("")) == 4
    assert set(place.records()) == {
        (ORIGIN, note),
        (f"{ORIGIN}/acme", place.objects.get("chains/acme/checkpoint")),
    }


def test_what_is_published_is_found(place: Place) -> None:
    """A notary that starts finds the largest checkpoint of its log, wherever one of the three places has it."""
    keys = [LOG.verifier]
    assert place.publisher().published(keys) is None
    place.publisher().offer(root_note(5))
    assert place.publisher().published(keys) == Checkpoint(ORIGIN, 5, digest("root"))
    place.publisher().publish(root_note(7), [], time_seconds=NOW_SECONDS)
    place.publisher().offer(root_note(8, "later"))
    assert place.publisher().published(keys) == Checkpoint(ORIGIN, 8, digest("later"))
    for path in ("root/checkpoint", "root/unwitnessed"):
        place.objects.put(path, b"")  # as a power cut may leave it
    assert place.publisher().published(keys) == Checkpoint(ORIGIN, 7, digest("root"))


def test_storages_of_other_logs(place: Place) -> None:
    """A storage with another log's checkpoint, or one of an unknown key, is not published in."""
    other = signer("other.example/audit")
    place.objects.put("root/checkpoint", sign_note(Checkpoint("other.example/audit", 1, digest("x")).pack(), [other]))
    with pytest.raises(SignatureMissing):
        place.publisher().published([LOG.verifier])
    place.objects.put("root/checkpoint", sign_note(Checkpoint("other.example/audit", 1, digest("x")).pack(), [LOG]))
    with pytest.raises(OriginDiffers):
        place.publisher().published([LOG.verifier])


def test_nothing_smaller(place: Place) -> None:
    """A smaller root checkpoint is neither offered nor published, nor is a smaller one of a chain."""
    place.publisher().publish(root_note(7), [], time_seconds=NOW_SECONDS)
    publisher = place.publisher()
    publisher.published([LOG.verifier])
    with pytest.raises(RolledBack, match="size 6, and 7"):
        publisher.offer(root_note(6))
    with pytest.raises(RolledBack, match="size 6, and 7"):
        publisher.publish(root_note(6), [], time_seconds=NOW_SECONDS)
    publisher.publish(root_note(8), [ChainState("acme", 3, digest("acme"))], time_seconds=NOW_SECONDS)
    with pytest.raises(RolledBack, match="acme"):
        publisher.publish(root_note(9), [ChainState("acme", 2, digest("acme"))], time_seconds=NOW_SECONDS)


def test_another_root_of_the_same_size(place: Place) -> None:
    """Where another root of the same size was published, the log has forked: nothing is published over it."""
    place.publisher().publish(root_note(7), [], time_seconds=NOW_SECONDS)
    with pytest.raises(TreeDiffers, match="size 7"):
        place.publisher().publish(root_note(7, "another"), [], time_seconds=NOW_SECONDS)
    place.objects.put(root_checkpoint_path(9), b"junk")
    place.publisher().publish(root_note(9), [], time_seconds=NOW_SECONDS)
    assert place.objects.get(root_checkpoint_path(9)) == root_note(9)


def test_found_behind_what_others_wrote(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint of a log is found behind junk, forged notes and those of many chains, and is bounded."""
    topic = place.topic()
    topic.send([], (ORIGIN, root_note(7)))
    topic.send([], (ORIGIN, root_note(8)))
    forged = sign_note(Checkpoint(ORIGIN, 99, digest("x")).pack(), [signer(ORIGIN, number=1)])
    producer = Producer({"bootstrap.servers": place.bootstrap})
    for number in range(3_000):
        producer.produce(place.name, forged if number % 2 else b"junk", (ORIGIN, "other")[number % 3 == 0], 0)
        producer.poll(0)
    producer.produce(place.name, None, None, 0)
    producer.flush(TIMEOUT_SECONDS)
    assert topic.last(ORIGIN, [LOG.verifier]) == Checkpoint(ORIGIN, 8, digest("root"))
    assert topic.last(f"{ORIGIN}/acme", [LOG.verifier.renamed(f"{ORIGIN}/acme")]) is None
    monkeypatch.setattr(checkpoint_topic, "LOOKED_AT_MAX", 1_000)
    with pytest.raises(StoreError, match="records"):
        topic.last(ORIGIN, [LOG.verifier])


def test_an_old_one_that_is_repeated(place: Place) -> None:
    """Somebody who writes an old checkpoint again does not hide the newer one before it."""
    topic = place.topic()
    for size in (7, 8, 7):
        topic.send([], (ORIGIN, root_note(size)))
    assert topic.last(ORIGIN, [LOG.verifier]) == Checkpoint(ORIGIN, 8, digest("root"))


def test_brokers_that_are_away() -> None:
    """Brokers that do not answer are unreachable within the time given, for writing and for reading."""
    topic = CheckpointTopic(KafkaConnection("127.0.0.1:9"), topic="t", client_id="test", timeout_seconds=1.5)
    with pytest.raises(Unreachable):
        topic.send([("a", b"b")], (ORIGIN, b"x"))
    with pytest.raises(Unreachable):
        topic.last(ORIGIN, [LOG.verifier])


def test_keys_of_others() -> None:
    """Only a key of this log signs it: no other name, no witness's key, and at least one."""
    for keys in ((), (signer("other.example/audit"),), (signer(ORIGIN, KeyType.COSIGNATURE),)):
        with pytest.raises(ConfigError):
            LogSigner(ORIGIN, keys)


def test_two_kinds_of_keys() -> None:
    """A log may sign with ML-DSA-44 beside Ed25519: each alone is enough for who knows it."""
    quantum = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
    log_signer = LogSigner(ORIGIN, [LOG, quantum])
    note = log_signer.chain("acme", 3, digest("acme"), time_seconds=NOW_SECONDS)
    for key in (LOG, quantum):
        assert verify_note(note, [key.verifier.renamed(f"{ORIGIN}/acme")]).verified
    assert log_signer.is_timed
    plain = LogSigner(ORIGIN, [LOG])
    assert plain.root(3, digest("r"), time_seconds=1) == plain.root(3, digest("r"), time_seconds=2)
    assert "PRIVATE" not in repr(vars(log_signer))
