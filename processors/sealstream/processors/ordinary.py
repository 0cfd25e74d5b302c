"""Chains ordinary records: those that are new, and sound in every way that can be told at a glance (pure).

Nearly all records are ordinary, so what is done for one of them decides how fast a worker is. This knows no rule but
theirs, and leaves every other record to :mod:`~sealstream.processors.chaining`. The optional distribution
``sealstream-native`` does the same in C. Tests hold this equal to the rules, and that equal to this.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from sealstream.kafka.topics import TRACEPARENT_HEADER
from sealstream.processors.window import Window, namespace
from sealstream.schemas.codec import ordinary_event_id, ordinary_mark
from sealstream.schemas.entry import PAYLOAD_PREFIX, TENANT_BYTES_MAX, Kind, entry_head, packer
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.processors.chaining import Link, Record, Sealed

LOG_APPEND_TIME: Final = 2
"""The timestamp type of a record whose time is the broker's, as the Kafka protocol and librdkafka number it."""

NATIVE_DISTRIBUTION: Final = "sealstream-native"
NATIVE_PACKAGE: Final = "sealstream.native"
_TRACEPARENT_PATTERN: Final = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_NONE: Final = b""


def _around_tenant(size: int) -> tuple[bytes, bytes, bytes]:
    """Return what stands before a tenant of this size in an entry, and before and behind it in a mark."""
    name = b"\xff" * size  # a byte that stands nowhere else in them
    before_mark, behind_mark = ordinary_mark(name).split(name)
    return entry_head(Kind.EVENT, name)[:-size], before_mark, behind_mark


# By the size of the tenant: where each record is another tenant's, to pack these anew takes as long as to hash them.
_AROUND_TENANT: Final = [(_NONE, _NONE, _NONE), *(_around_tenant(size) for size in range(1, TENANT_BYTES_MAX + 1))]


class End:
    """The end of the chain that the records with a key go to, and what all its ordinary entries have in common.

    Arguments:
        link: The end.
        reason: Why records with this key are quarantined, or 0.

    ``head``, ``mark`` and ``namespace`` are empty until the chain may hold ordinary records.
    """

    __slots__ = ("head", "link", "mark", "namespace", "reason")

    def __init__(self, link: Link, reason: int) -> None:
        self.link = link
        self.reason = reason
        if link.seq and not link.previous_topic:
            self.open()
        else:
            self.head = self.mark = self.namespace = _NONE

    def open(self) -> None:
        """Take ordinary records from now on, if this is a tenant's chain; it has begun."""
        if self.reason:
            self.head = self.mark = self.namespace = _NONE
            return
        name = self.link.name
        before_head, before_mark, behind_mark = _AROUND_TENANT[len(name)]
        self.head, self.mark, self.namespace = before_head + name, before_mark + name + behind_mark, namespace(name)


@dataclass(slots=True)
class Run:
    """Records of one partition on their way into its chains, and how far they have come.

    Arguments:
        records: The records.
        enter: Finds the end of the chain that a key's records go to.
        window: What was there already.
        topic_id: The UUID of the source topic, 16 bytes.
        partition: The source partition.
        position: No offset below this one may follow.
        received: The time of the last record, in microseconds.
        index: The index of the next record.
        ends: What ``enter`` has found.
        sealed: The records for audit.chained so far.
    """

    records: list[Record]
    enter: Callable[[bytes | None], End]
    window: Window
    topic_id: bytes
    partition: int
    position: int
    received: int
    index: int = 0
    ends: dict[bytes | None, End] = field(default_factory=dict[bytes | None, End])
    sealed: list[Sealed] = field(default_factory=list["Sealed"])


ChainOrdinary: TypeAlias = Callable[[Run], None]
"""Chains records up to the first one that is not ordinary, or that may not be; that one is left as it is."""


def chain_ordinary(run: Run) -> None:
    """Chain records up to the first one that is not ordinary: :data:`ChainOrdinary` in pure Python."""
    # Two microseconds a record besides two hashes: what the loop touches is bound to locals.
    append, remember, ends, topic_id, partition = (
        run.sealed.append, run.window.remember, run.ends, run.topic_id, run.partition,
    )  # fmt: skip
    records, position, received, index = run.records, run.position, run.received, run.index
    for index in range(index, len(records)):  # noqa: B020 - goes on from where the last call ended
        record = records[index]
        key, value, offset = record.key(), record.value(), record.offset()
        time_type, milliseconds = record.timestamp()
        end = ends.get(key) or run.enter(key)
        head = end.head
        if not head or value is None or offset is None or offset < position or time_type != LOG_APPEND_TIME:
            break
        event_id = ordinary_event_id(value, end.mark)
        if not event_id:
            break
        link, digest = end.link, sha256(PAYLOAD_PREFIX + value).digest()
        seq, micros = link.seq, milliseconds * 1000
        if not remember(end.namespace + event_id, offset, micros, seq, digest):
            break
        size = len(event_id)
        entry = packer(len(head), size)(
            head, seq, link.hash, micros, topic_id, partition, offset, 0, size, event_id, len(value), digest
        )
        link.seq, link.hash = seq + 1, sha256(b"\x00" + entry).digest()
        append((link.name, value, entry, traceparent(record)))
        position, received = offset + 1, micros
    else:
        index = len(records)
    run.position, run.received, run.index = position, received, index


def fastest(*, native: bool) -> ChainOrdinary:
    """Return what chains ordinary records in this process.

    Arguments:
        native: Whether ``sealstream-native`` may do it, where it is installed.

    Raises:
        ConfigError: It is that of another version or for another Python, or cannot be loaded.
    """
    if not native or importlib.util.find_spec(NATIVE_PACKAGE) is None:
        return chain_ordinary
    hint = "install it again from the same source, for this Python, or set SEALSTREAM_NATIVE=false"
    try:
        mine, its = version("sealstream"), version(NATIVE_DISTRIBUTION)
        if its != mine:  # it may not know a rule yet
            raise ConfigError(f"{NATIVE_DISTRIBUTION} {its} does not belong to sealstream {mine}", hint=hint)
        return cast("ChainOrdinary", importlib.import_module(f"{NATIVE_PACKAGE}.ordinary").chain_ordinary)
    except ImportError as error:  # a distribution that is not found is one as well
        raise ConfigError(f"{NATIVE_DISTRIBUTION} cannot be loaded: {error}", hint=hint) from error


def traceparent(record: Record) -> bytes | None:
    """Return the value of a record's first ``traceparent`` header if it is valid, as W3C Trace Context has it."""
    try:
        headers = record.headers()
    except (SystemError, UnicodeError):
        # confluent-kafka cannot present headers of which one has a name that is no UTF-8. Headers are no evidence.
        return None
    if not isinstance(headers, list):
        return None
    for name, value in headers:  # pyright: ignore[reportUnknownVariableType]
        if name == TRACEPARENT_HEADER:
            return value if isinstance(value, bytes) and _TRACEPARENT_PATTERN.fullmatch(value) else None
    return None
