"""What whoever administers Kafka can do to an instance's topics, and how it is noticed."""

# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
# confluent-kafka leaves open what its administrator's futures hold.
from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Final, cast

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import payload_digest
from sealstream.schemas.errors import ConfigError, SealstreamError
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.sinks.notary.checkpoint_topic import CheckpointTopic
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.verifier.state import chain_key, pack_chain
from sealstream.sinks.verifier.violations import resolve
from sealstream.worker.settings import load_settings
from support.attacks.attack import Attack, Report, Where
from support.attacks.audited_log import (
    ACME,
    BEFORE,
    NEIGHBOUR,
    OTHERS,
    REFUSED,
    SEQ,
    TENANTS,
    UNSOUND,
    WAIT_SECONDS,
    AuditedLog,
    Forge,
)
from support.forging import Log, violations_of, with_entry
from support.harness import read_log
from support.model import ExpectedRecord
from support.processing import chained_count, run_engine
from support.publish import RawRecord, event_value, publish_raw
from support.workers import wait_for

REQUEST_SECONDS: Final = 3.0
"""How long the verifier waits for what may still come; rows that wait for its end set it short."""

Perform = Callable[[AuditedLog], list[Report]]


def administer(log: AuditedLog, ask: Callable[[AdminClient], object]) -> None:
    """Ask the brokers for something with an administrator's rights, and wait until it is done."""
    client = AdminClient({"bootstrap.servers": log.pipeline.bootstrap})
    for future in cast("Mapping[object, Future[object]]", ask(client)).values():
        future.result(30)


def delete_records(log: AuditedLog, topic: str, before: int, *, partition: int = 0) -> None:
    """Delete a partition's records before an offset; all of them for -1."""
    administer(log, lambda client: client.delete_records([TopicPartition(topic, partition, before)]))


def make_anew(log: AuditedLog, topic: str) -> None:
    """Delete a topic and create it again, empty."""
    pipeline, before = log.pipeline, log.pipeline.topic_id(topic)
    administer(log, lambda client: client.delete_topics([topic], operation_timeout=30))

    def is_new() -> bool:
        try:
            pipeline.create_topics()
        except ConfigError:  # it is not gone yet
            return False
        return pipeline.topic_id(topic) not in (None, before)

    wait_for(is_new, timeout_seconds=WAIT_SECONDS, what=f"the new {topic}")


def append(log: AuditedLog, *records: ExpectedRecord, partition: int | None = None) -> None:
    """Append records to audit.chained, as anybody can who may write to it."""
    producer = Producer({"bootstrap.servers": log.pipeline.bootstrap})
    for one in records:
        to = one.partition if partition is None else partition
        headers: list[tuple[str, str | bytes | None]] = [(SEAL_ENTRY_HEADER, one.entry)]
        producer.produce(log.pipeline.topics.chained, one.value, one.key, to, headers=headers)
    assert producer.flush(30) == 0


# -- records on audit.chained ------------------------------------------------------------------------------------------


def intercepting(forge: Forge) -> Perform:
    """Return a row in which the log is altered between processor and readers; each other record is as it was."""

    def perform(log: AuditedLog) -> list[Report]:
        log.begin()
        log.chain_forged(forge, relinked=False, followed=False)
        return log.look()

    return perform


def _altered(record: ExpectedRecord) -> ExpectedRecord:
    value = event_value(ACME, "e-2", note="nothing happened")
    sealed = with_entry(record, payload=payload_digest(value), length=len(value), event_id="e-2")
    return replace(sealed, value=value)


def _append_fork(log: AuditedLog) -> list[Report]:
    """Append another, well sealed entry for a seq that is taken."""
    log.begin()
    log.publish()
    logs = log.chainer.expected()
    log.chainer.write(logs)
    [genuine] = [one for one in logs[0] if one.key == ACME.encode()]
    append(log, _altered(genuine))
    return log.look()


def _append_event(log: AuditedLog) -> list[Report]:
    """Append a well sealed entry behind the chain's end, for an event that nobody published."""
    log.begin()
    log.publish()
    logs = log.chainer.expected()
    log.chainer.write(logs)
    [genuine] = [one for one in logs[0] if one.key == ACME.encode()]
    append(log, with_entry(_altered(genuine), seq=BEFORE + 2, prev=genuine.hash))
    return log.look()


def _append_elsewhere(log: AuditedLog) -> list[Report]:
    """Append a genuine record to another partition."""
    log.begin()
    log.publish()
    logs = log.chainer.expected()
    log.chainer.write(logs)
    append(log, *(one for one in logs[0] if one.key == ACME.encode()), partition=1)
    return log.look(attacked=())


def _payload(records: Log, at: int) -> Log:
    return [*records[:at], replace(records[at], value=event_value(ACME, "e-8", note="x")), *records[at + 1 :]]


def _no_seal(records: Log, at: int) -> Log:
    return [*records[:at], replace(records[at], entry=b""), *records[at + 1 :]]


def _unseal(log: AuditedLog) -> list[Report]:
    """Take the seal off a record: nothing can be stored or cosigned of it."""
    log.begin()
    log.chain_forged(_no_seal, relinked=False, followed=False)
    return log.look(witnessed=False)


def _drop(records: Log, at: int) -> Log:
    return [*records[:at], *records[at + 1 :]]


def _move_back(records: Log, at: int) -> Log:
    return [*records[:at], *records[at + 1 : at + 4], records[at], *records[at + 4 :]]


def _splice(records: Log, at: int) -> Log:
    """Put a record under another tenant's key."""
    return [*records[:at], replace(records[at], key=NEIGHBOUR.encode()), *records[at + 1 :]]


# -- topics and groups -------------------------------------------------------------------------------------------------


def _delete_unverified(short: str) -> Perform:
    """Delete records of a log that the verifier has not come to."""

    def perform(log: AuditedLog) -> list[Report]:
        log.begin()
        log.rest()
        log.publish()
        log.chainer.chain()
        topic = getattr(log.pipeline.topics, short)
        delete_records(log, topic, -1)
        return [log.watch(request_timeout_seconds=REQUEST_SECONDS).wait_refused(), *log.findings()]

    return perform


def _recreate_chained(log: AuditedLog) -> list[Report]:
    log.begin()
    log.rest()
    make_anew(log, log.pipeline.topics.chained)
    log.watch(request_timeout_seconds=REQUEST_SECONDS)
    wait_for(lambda: len(violations_of(log.pipeline)) >= 2, timeout_seconds=WAIT_SECONDS, what="both partitions")
    return log.findings()


def _recreate_source(log: AuditedLog) -> list[Report]:
    log.begin()
    log.rest()
    make_anew(log, log.pipeline.topics.events)
    log.publish()
    return [
        log.watch(request_timeout_seconds=REQUEST_SECONDS).wait_refused(),
        *log.findings(),
    ]


def _add_partitions(log: AuditedLog) -> list[Report]:
    log.begin()
    log.rest()
    topics = log.pipeline.topics
    more = [NewPartitions(name, 3) for name in (topics.events, topics.chained)]
    administer(log, lambda client: client.create_partitions(more))
    return [log.watch(request_timeout_seconds=REQUEST_SECONDS).wait_refused(), *log.findings()]


def _move_offsets(log: AuditedLog) -> list[Report]:
    """Set the verifier's group back, so that it would verify again, or on, so that it would leave something out."""
    log.begin()
    log.rest()
    group, topic = f"{log.pipeline.genesis.instance}-verifier", log.pipeline.topics.chained
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])

    def is_moved() -> bool:  # brokers refuse it while a member's session lasts, in the answer for each partition
        client = AdminClient({"bootstrap.servers": log.pipeline.bootstrap})
        try:
            answer = client.alter_consumer_group_offsets([moved])[group].result(30)
        except KafkaException:
            return False
        return all(place.error is None for place in answer.topic_partitions or ())

    wait_for(is_moved, timeout_seconds=WAIT_SECONDS, what="the group to be empty")
    return [log.watch(request_timeout_seconds=REQUEST_SECONDS).wait_refused(), *log.findings()]


def _forge_state(log: AuditedLog) -> list[Report]:
    """Write another head of a chain into the verifier's memory."""
    log.begin()
    log.rest()
    remembered = pack_chain(Chain(ACME.encode(), BEFORE + 1, bytes(32)))
    producer = Producer({"bootstrap.servers": log.pipeline.bootstrap})
    producer.produce(log.pipeline.topics.verifier, remembered, chain_key(0, ACME.encode()), 0)
    assert producer.flush(30) == 0
    log.watch()
    return log.look()


def _empty_state(log: AuditedLog) -> list[Report]:
    """Make the verifier's memory anew, so that it would begin to trust again."""
    log.begin()
    log.rest()
    make_anew(log, log.pipeline.topics.verifier)
    return [log.watch(request_timeout_seconds=REQUEST_SECONDS).wait_refused(), *log.findings()]


def _delete_violations(log: AuditedLog) -> list[Report]:
    """Delete what the verifier has reported; the stopped feed stands in its own memory."""
    log.begin()
    log.chain_forged(_payload, relinked=False, followed=False)
    reports = log.look()
    delete_records(log, log.pipeline.topics.violations, -1)
    log.publish()
    log.chainer.chain()
    log.wait_checked()
    return [*reports, *log.witness()]


def _resolve(log: AuditedLog) -> list[Report]:
    """Resolve a violation in somebody's name: what is resolved stands recorded, by whom nobody proves."""
    log.begin()
    log.chain_forged(_payload, relinked=False, followed=False)
    reports = log.look()
    [violation] = violations_of(log.pipeline)
    resolve(load_settings(log.pipeline.environment), violation.id, by="auditor@example.com", why="nothing happened")
    log.publish()
    log.chainer.chain()
    log.wait_checked()
    assert len(read_log(log.pipeline.connection, log.pipeline.topics.violations, 1)[0]) == 2, "it is on record"
    return reports


def _forge_checkpoints(log: AuditedLog) -> list[Report]:
    """Write checkpoints on audit.checkpoints: a larger one under another key, an old one again, and garbage."""
    instance, topic = log.pipeline.genesis.instance, log.pipeline.topics.checkpoints
    key, thief = (SignerKey.generate(instance, KeyType.ED25519) for _ in range(2))
    old, new, forged = (
        sign_note(Checkpoint(instance, size, bytes([size]) * 32).pack(), [signer])
        for size, signer in ((1, key), (2, key), (9, thief))
    )
    producer = Producer({"bootstrap.servers": log.pipeline.bootstrap})
    for note in (old, new, forged, old, b"garbage", b""):
        producer.produce(topic, note, instance.encode(), 0)
    assert producer.flush(30) == 0
    reader = CheckpointTopic(log.pipeline.connection, topic=topic, client_id=f"{instance}-notary")
    last = reader.last(instance, [key.verifier])
    reader.close()
    assert last is not None
    assert last.size == 2, "a notary at size 2 would halt, or go back"
    return []


# -- the processor's memory, and what comes before the log -------------------------------------------------------------


def _forge_heads(log: AuditedLog) -> list[Report]:
    """Write an older head over the processor's, so that it would chain the newest events a second time."""
    pipeline = log.pipeline
    log.publish(count=2)
    entries = 3 * len(TENANTS)
    run_engine(pipeline, until=lambda: chained_count(pipeline) == entries)
    heads = read_log(pipeline.connection, pipeline.topics.heads, 2)[0]
    first = next(one for one in heads if (one.key or b"").count(b"/") == 0)
    producer = Producer({"bootstrap.servers": pipeline.bootstrap})
    producer.produce(pipeline.topics.heads, b"\x00" * len(first.value or b""), first.key, 0)
    assert producer.flush(30) == 0
    try:
        run_engine(pipeline, until=lambda: False, request_timeout_seconds=REQUEST_SECONDS)
    except SealstreamError as error:
        assert chained_count(pipeline) == entries
        return [Report("processor", type(error).__name__)]
    return []


def _speak_for(log: AuditedLog) -> list[Report]:
    """Publish an event in a tenant's name, straight into audit.events."""
    log.begin()
    forged = RawRecord(ACME.encode(), event_value(ACME, "never-sent"))
    publish_raw(log.pipeline.bootstrap, log.pipeline.topics.events, [forged], partitions=2)
    return log.look(attacked=())


def _suppress(log: AuditedLog) -> list[Report]:
    """Throw a producer's record away before it is appended: the log is the same as if it had never been sent."""
    log.begin()
    return log.look(attacked=())


def _row(name: str, perform: Perform, *reports: tuple[str, str, int | None], not_shown: str = "") -> Attack[AuditedLog]:
    """Return a row: what the verifier reports; the witness refuses a round for the first of it."""
    verifier = [Report("verifier", *one) for one in reports]
    refused = [Report("witness", REFUSED, tenant, seq) for _, tenant, seq in reports[:1]]
    return Attack(name, "Kafka administrator", perform, (*verifier, *refused), not_shown)


def _unseen(name: str, perform: Perform, not_shown: str) -> Attack[AuditedLog]:
    return Attack(name, "Kafka administrator", perform, (), not_shown)


def _halt(name: str, perform: Perform, *reports: Report | str) -> Attack[AuditedLog]:
    """Return a row with these reports; a word is the error with which the verifier refuses to go on."""
    said = tuple(one if isinstance(one, Report) else Report("verifier", one) for one in reports)
    return Attack(name, "Kafka administrator", perform, said)


_BOTH: Final[tuple[tuple[Where, str], ...]] = (("verifier", "edited"), ("witness", REFUSED))

ROWS: Final = (
    _row("appends a second entry for a seq", _append_fork, ("fork", ACME, BEFORE + 1)),
    Attack(
        "appends an event that nobody published",
        "Kafka administrator",
        _append_event,
        (Report("verifier", "edited", ACME, BEFORE + 2), Report("witness", UNSOUND)),
    ),
    _row("alters a payload", intercepting(_payload), ("payload-altered", ACME, SEQ)),
    _halt("takes the seal off a record", _unseal, Report("verifier", "edited", ACME, SEQ)),
    _row("suppresses a chained record", intercepting(_drop), ("gap", ACME, SEQ)),
    _halt(
        "moves a chained record behind others",
        intercepting(_move_back),
        Report("verifier", "reordered", ACME, SEQ),
        Report("witness", UNSOUND),
    ),
    _row("puts a record under another tenant's key", intercepting(_splice), ("foreign", ACME, SEQ)),
    _halt(
        "copies a record to another partition",
        _append_elsewhere,
        Report("verifier", "foreign", ACME, BEFORE + 1),
        Report("witness", "foreign", ACME, BEFORE + 1),
    ),
    _halt("deletes audit.chained before it is verified", _delete_unverified("chained"), "SourceExpired"),
    _halt("deletes audit.events before it is verified", _delete_unverified("events"), "SourceExpired"),
    _halt("makes audit.events anew", _recreate_source, "InstanceDiffers"),
    Attack(
        "makes audit.chained anew",
        "Kafka administrator",
        _recreate_chained,
        tuple(Report("verifier", "rollback", f"!partition-{number}") for number in OTHERS),
    ),
    _halt("adds partitions", _add_partitions, "InstanceDiffers"),
    _halt("moves the verifier's offsets", _move_offsets, "HeadsDiffer"),
    Attack(
        "forges the verifier's memory",
        "Kafka administrator",
        _forge_state,
        tuple(Report(where, kind, ACME, BEFORE) for where, kind in _BOTH),
    ),
    _halt("empties the verifier's memory", _empty_state, "HeadsDiffer"),
    Attack("forges audit.heads", "Kafka administrator", _forge_heads, (Report("processor", "HeadsDiffer"),)),
    Attack(
        "deletes what was reported",
        "Kafka administrator",
        _delete_violations,
        (
            Report("verifier", "payload-altered", ACME, SEQ),
            Report("witness", REFUSED, ACME, SEQ),
            Report("witness", REFUSED),  # it does not find any more what it refuses for, and refuses
        ),
    ),
    _row(
        "resolves a violation in somebody's name",
        _resolve,
        ("payload-altered", ACME, SEQ),
        not_shown="a resolution is not signed: that it was made stands on audit.violations, and not who made it",
    ),
    _unseen(
        "forges audit.checkpoints",
        _forge_checkpoints,
        "nobody needs to report it: what the log's key has not signed is passed over, and so is an old checkpoint",
    ),
    _unseen(
        "publishes in a tenant's name",
        _speak_for,
        "whoever may write audit.events speaks for every tenant; the gateway alone asks for a tenant's credentials",
    ),
    _unseen(
        "suppresses an event before it is appended",
        _suppress,
        "what was never appended was never in the log: its producer alone can tell, by a receipt that never came",
    ),
)
