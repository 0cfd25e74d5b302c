"""The catalogue of metrics: every metric of every role stands here, so that dashboards and alerts have one source.

Names follow Prometheus' rules: the prefix ``sealstream_<role>_``, base units, ``_total`` for counters. Labels are
bounded: partitions, kinds, types and the logs of a policy, never tenants.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
REGISTRY: Final = CollectorRegistry(auto_describe=True)

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECORDS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def counter(name: str, help_text: str, *labels: str) -> Counter:
    """Return a new counter of the catalogue."""
    return Counter(f"sealstream_{name}", help_text, labels, registry=REGISTRY)


def gauge(name: str, help_text: str, *labels: str) -> Gauge:
    """Return a new gauge of the catalogue."""
    return Gauge(f"sealstream_{name}", help_text, labels, registry=REGISTRY)


def seconds(name: str, help_text: str, *labels: str) -> Histogram:
    """Return a new histogram of durations of the catalogue."""
    return Histogram(f"sealstream_{name}", help_text, labels, registry=REGISTRY, buckets=_SECONDS)


def records(name: str, help_text: str, *labels: str) -> Histogram:
    """Return a new histogram of batch sizes of the catalogue."""
    return Histogram(f"sealstream_{name}", help_text, labels, registry=REGISTRY, buckets=_RECORDS)


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format (:data:`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY)


# -- processor -----------------------------------------------------------------------------------------------------

PROCESSOR_ENTRIES: Final = counter(
    "processor_entries_total", "Entries that this worker chained and committed, by kind.", "kind"
)
PROCESSOR_LAG: Final = gauge(
    "processor_lag_records", "Source offsets between the last committed position and the end of the log.", "partition"
)
PROCESSOR_BATCH_RECORDS: Final = records("processor_batch_records", "Source records of one transaction.")
PROCESSOR_TRANSACTION_SECONDS: Final = seconds(
    "processor_transaction_seconds", "Time from the begin of a transaction to the end of its commit."
)
PROCESSOR_EVENT_AGE_SECONDS: Final = seconds(
    "processor_event_age_seconds", "Age of the oldest record of a batch when its transaction was committed."
)
PROCESSOR_ABORTS: Final = counter("processor_aborts_total", "Transactions that this worker aborted.")
PROCESSOR_ASSIGNED: Final = gauge("processor_assigned_partitions", "Partitions whose heads this worker has loaded.")
PROCESSOR_STUCK: Final = gauge(
    "processor_stuck_partitions",
    "Partitions with records to chain and nothing committed, or with a leader that is silent.",
)
PROCESSOR_POSITION: Final = gauge(
    "processor_position_offsets", "Committed position in the source: the offset to go on from.", "partition"
)
PROCESSOR_END: Final = gauge(
    "processor_end_offsets", "End of the source as a reader of committed records sees it.", "partition"
)
PROCESSOR_CHAINS: Final = gauge("processor_held_chains", "Chains whose heads this worker holds.", "partition")
PROCESSOR_LAST_COMMIT: Final = gauge(
    "processor_last_commit_timestamp_seconds", "When this worker last committed records.", "partition"
)
PROCESSOR_AGENT_SECONDS: Final = seconds(
    "processor_agent_seconds", "Time from handing a batch to the agent until it was chained and produced."
)
PROCESSOR_LOOP_DELAY_SECONDS: Final = seconds(
    "processor_loop_delay_seconds", "How late the event loop came back from a pause of half a second."
)
PROCESSOR_WEB_REQUESTS: Final = counter(
    "processor_web_requests_total", "Answers of the web port, by HTTP status.", "status"
)

# -- sink ----------------------------------------------------------------------------------------------------------

SINK_ENTRIES: Final = counter("sink_entries_total", "Entries that this worker stored and committed, by kind.", "kind")
SINK_LAG: Final = gauge(
    "sink_lag_records", "Chained offsets between the position in the store and the end of the log.", "partition"
)
SINK_BATCH_RECORDS: Final = records("sink_batch_records", "Chained records of one SQL transaction.")
SINK_TRANSACTION_SECONDS: Final = seconds(
    "sink_transaction_seconds", "Time from the begin of an SQL transaction to the end of its commit."
)
SINK_SLOW_BATCHES: Final = counter(
    "sink_slow_batches_total", "Batches that met rows which were there already and were compared row by row."
)

SINK_VIOLATIONS: Final = counter(
    "sink_violations_total", "Differences between the log and the store that this worker reported, by type.", "type"
)
SINK_UNDECODED: Final = counter(
    "sink_undecoded_total", "Stored events whose payload could not be decoded for search, by reason.", "reason"
)
SINK_SEARCH_ROWS: Final = counter("sink_search_rows_total", "Search rows that this worker derived and committed.")
SINK_SEARCH_LAG: Final = gauge(
    "sink_search_lag_records", "Source offsets between what can be searched and what is stored.", "partition"
)
SINK_SEARCH_FAILURES: Final = counter(
    "sink_search_failures_total", "Attempts to derive search rows that failed and are repeated."
)
SINK_ASSIGNED: Final = gauge("sink_assigned_partitions", "Partitions that this worker stores.")

# -- verifier ------------------------------------------------------------------------------------------------------

VERIFIER_ENTRIES: Final = counter(
    "verifier_entries_total", "Entries that this worker recomputed and found to hold, by kind.", "kind"
)
VERIFIER_LAG: Final = gauge(
    "verifier_lag_records", "Chained offsets between the verified position and the end of the log.", "partition"
)
VERIFIER_BATCH_RECORDS: Final = records("verifier_batch_records", "Chained records of one transaction.")
VERIFIER_TRANSACTION_SECONDS: Final = seconds(
    "verifier_transaction_seconds", "Time from the begin of a transaction to the end of its commit."
)
VERIFIER_VIOLATIONS: Final = counter("verifier_violations_total", "Violations found, by type.", "type")
VERIFIER_STOPPED: Final = gauge(
    "verifier_stopped_tenants", "Tenants whose verified feed stands still because of a violation."
)
VERIFIER_STANDING: Final = gauge(
    "verifier_standing_partitions", "Partitions that stand still as a whole because a log lost its end or was replaced."
)

# -- witness -------------------------------------------------------------------------------------------------------

WITNESS_COSIGNED: Final = counter(
    "witness_cosigned_total", "Checkpoints that this witness cosigned, by the log's origin.", "origin"
)
WITNESS_REFUSED: Final = counter("witness_refused_total", "Requests that this witness refused, by reason.", "reason")
WITNESS_SIZE: Final = gauge("witness_size_entries", "Size of the latest checkpoint that is remembered.", "origin")
WITNESS_LAST_COSIGNED: Final = gauge(
    "witness_last_cosigned_timestamp_seconds", "Time in the latest cosignature; 0 if there is none.", "origin"
)
WITNESS_SECONDS: Final = seconds("witness_request_seconds", "Time from a request's first byte to its answer.")
WITNESS_RECOMPUTED_ENTRIES: Final = counter(
    "witness_recomputed_entries_total", "Entries of audit.chained that the recomputing witness has read."
)
WITNESS_RECOMPUTED_ROUNDS: Final = counter(
    "witness_recomputed_rounds_total", "Rounds of the root log that the recomputing witness found to be right."
)
WITNESS_REFUSED_ROUNDS: Final = counter(
    "witness_refused_rounds_total",
    "Checkpoints that do not equal what was recomputed, by the violation's type; open: behind an open violation.",
    "type",
)

# -- notary --------------------------------------------------------------------------------------------------------

NOTARY_ROUNDS: Final = counter("notary_rounds_total", "Rounds that this worker committed to.")
NOTARY_ENTRIES: Final = counter("notary_entries_total", "Entries that these rounds have brought into their trees.")
NOTARY_ROUND_SECONDS: Final = seconds(
    "notary_round_seconds", "Time from the look into the store to the commit of a round's heads."
)
NOTARY_CHAINS: Final = gauge("notary_chains", "Chains in the tenant map.")
NOTARY_COMMITTED: Final = gauge("notary_committed_entries", "Size of the root log that is committed to: its rounds.")
NOTARY_WITNESSED: Final = gauge(
    "notary_witnessed_entries", "Size of the last root checkpoint with its quorum: its rounds."
)
NOTARY_SCRUBBED_ENTRIES: Final = counter(
    "notary_scrubbed_entries_total", "Entries that were read again from the store and led to the root of their head."
)
NOTARY_UNWITNESSED_SECONDS: Final = gauge(
    "notary_unwitnessed_seconds",
    "Age of the oldest stored entry that no witnessed checkpoint covers; 0 if there is none.",
)

# -- outbox --------------------------------------------------------------------------------------------------------

OUTBOX_PUBLISHED: Final = counter("outbox_published_total", "Rows that this relay published and then took out.")
OUTBOX_REFUSED: Final = counter("outbox_refused_total", "Rows that this relay set aside because they hold no event.")
OUTBOX_BATCH_ROWS: Final = records("outbox_batch_rows", "Rows of one transaction.")
OUTBOX_TRANSACTION_SECONDS: Final = seconds(
    "outbox_transaction_seconds", "Time from taking rows to the commit that takes them out."
)
OUTBOX_WAITING: Final = gauge("outbox_waiting_rows", "Committed rows that no relay has published yet; counted so far.")
OUTBOX_OLDEST_SECONDS: Final = gauge(
    "outbox_oldest_seconds", "Age of the oldest row that waits to be published; 0 if there is none."
)
OUTBOX_SET_ASIDE: Final = gauge("outbox_set_aside_rows", "Rows that are set aside and wait for a person.")

# -- notary: witnesses and anchors ---------------------------------------------------------------------------------

NOTARY_WITNESS_REFUSALS: Final = counter(
    "notary_witness_refusals_total", "Times that a witness was asked and did not cosign, by its name.", "witness"
)
NOTARY_ANCHOR_FAILURES: Final = counter(
    "notary_anchor_failures_total", "Attempts to anchor a root checkpoint outside that failed, by anchor.", "anchor"
)
NOTARY_ANCHOR_LAST: Final = gauge(
    "notary_anchor_last_timestamp_seconds", "When a root checkpoint was last anchored, by anchor.", "anchor"
)

# -- gateway -------------------------------------------------------------------------------------------------------

GATEWAY_REQUESTS: Final = counter(
    "gateway_requests_total", "Requests to publish, by HTTP status; gone: the client left before the answer.", "status"
)
GATEWAY_EVENTS: Final = counter(
    "gateway_events_total",
    "Events of requests, by what became of them: published, spooled, refused, failed, or no room (full).",
    "status",
)
GATEWAY_SECONDS: Final = seconds(
    "gateway_request_seconds", "Time from a request's header to its answer, Kafka's acknowledgement included."
)
GATEWAY_CONNECTIONS: Final = gauge("gateway_connections", "Connections that are open.")
GATEWAY_CLOSED: Final = counter(
    "gateway_closed_total", "Connections that the gateway closed on its own: too many, or too slow.", "reason"
)
