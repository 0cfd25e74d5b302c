"""Settings of Kafka clients: the connection, and what consumers and producers of every role have in common."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, TypeAlias

from sealstream.kafka.topics import SEALED_BYTES_MAX

ClientConfig: TypeAlias = dict[str, str | int | float | bool]

KAFKA_LOG: Final = logging.getLogger("sealstream.kafka")
"""Where librdkafka's words go: give it to each client as ``logger``, else they go to the standard error as they are."""

PARTITIONER: Final = "murmur2_random"
"""librdkafka's name for the Java clients' default; its own default is another one."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach a cluster and who one is there.

    Arguments:
        bootstrap: Bootstrap servers, ``host:port`` separated by commas.
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; empty without SASL.
        username: For SASL.
        password: For SASL; never logged.
        ca_file: CA certificates in PEM.
        certificate_file: The client's certificate in PEM.
        key_file: The client's key in PEM.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    username: str = ""
    password: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""

    def __repr__(self) -> str:
        """Show the connection without its secret."""
        return f"KafkaConnection(bootstrap={self.bootstrap!r}, security_protocol={self.security_protocol!r})"

    def config(self, client_id: str) -> ClientConfig:
        """Return the librdkafka settings that every client of this connection begins with."""
        optional = {
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
        }
        config: ClientConfig = {
            "bootstrap.servers": self.bootstrap,
            "client.id": client_id,
            "security.protocol": self.security_protocol,
            # While a broker is away, librdkafka tries (and logs) about twice in each first interval, and does not slow
            # down as it should: measured, 38 times a second at 50 ms, 8 times at this.
            "reconnect.backoff.ms": 250,
            "reconnect.backoff.max.ms": 1000,
        }
        config.update({name: value for name, value in optional.items() if value})
        return config


GATHERED_BYTES: Final = 1024 * 1024
"""A broker that holds this much for a consumer lets it wait no longer for more."""
_FETCH_WAIT_MS: Final = 100


def consumer_config(
    connection: KafkaConnection, *, client_id: str, group: str, gather_seconds: float = 0.0
) -> ClientConfig:
    """Return the settings of a consumer that reads only what was committed and never skips silently.

    ``auto.offset.reset=error`` makes librdkafka report a position that is gone as an error on the message; whoever
    starts without a position assigns one explicitly. Offsets are committed by the role, never by a timer.

    Arguments:
        connection: How to reach the cluster.
        client_id: The client's name in the brokers' logs.
        group: The consumer group.
        gather_seconds: How long a broker lets records gather before it answers a fetch, unless there is a MiB of them.
            Without it each record is answered at once, which at a few thousand a second makes as many small answers
            as there are small batches.
    """
    gathering: ClientConfig = {"fetch.wait.max.ms": _FETCH_WAIT_MS}
    if gather_seconds:
        gathering = {"fetch.wait.max.ms": max(1, round(gather_seconds * 1000)), "fetch.min.bytes": GATHERED_BYTES}
    return connection.config(client_id) | {
        "group.id": group,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "partition.assignment.strategy": "range",
        # The default of 1000 ms stalls a consumer whose queue has filled: measured, a factor of 2.5.
        "fetch.queue.backoff.ms": 2,
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 131_072,
        "fetch.message.max.bytes": SEALED_BYTES_MAX,
        "enable.partition.eof": False,
        **gathering,
    }


def transactional_producer_config(
    connection: KafkaConnection, *, client_id: str, transactional_id: str, transaction_timeout_seconds: float
) -> ClientConfig:
    """Return the settings of a producer that writes one transaction after the other.

    Arguments:
        connection: How to reach the cluster.
        client_id: The client's name in the brokers' logs.
        transactional_id: Stable over restarts, so that a restart ends what its predecessor left open.
        transaction_timeout_seconds: After this the coordinator aborts; until then an open transaction blocks
            every read_committed reader behind it.
    """
    return connection.config(client_id) | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": int(transaction_timeout_seconds * 1000),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        "message.max.bytes": SEALED_BYTES_MAX,
        "compression.type": "lz4",
        # A commit sends what lingers. Until then it gathers, so that a transaction has about as many requests as
        # partitions with records. At 0 a burst leaves as many small requests; once five of them are on their way,
        # librdkafka spins until the broker answers: measured, 1.7 to 2.9 microseconds of its CPU a record, not 1.3.
        # With 5 ms and the default of 1 MB, which a partition's part of a full batch exceeds, it is half a microsecond
        # more than so.
        "linger.ms": 100,
        "batch.size": 2_000_000,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 262_144,
        # Between two transactions the default of 100 ms is waited: 89 ms instead of 8 ms a transaction.
        "retry.backoff.ms": 5,
    }
