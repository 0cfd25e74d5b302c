"""The chart's values: documented, complete, and strict. No Helm is needed here."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

from sealstream.worker.settings import Settings
from support.helm import CASES, CHART, REPOSITORY, Mapped, load_yaml, merged

SCHEMA: Mapped = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = load_yaml(CHART / "values.yaml")
# Helm hands it to every subchart, whatever it contains.
OPEN_ON_PURPOSE = ("properties", "global")
# Their keys are the user's own, or Kubernetes'.
FREE_MAPPINGS = {"podAnnotations", "serviceAccountAnnotations", "nodeSelector", "labels", "environment"}
# All their keys may be left out: the defaults show some of them, or say where all of them are shown.
PARTIAL_MAPPINGS = {"kafkaCredentials", "requests", "limits", "tuning"}

# The values that become a setting as they are, and the setting.
SETTINGS = {
    "kafka.securityProtocol": "kafka_security_protocol",
    "kafka.saslMechanism": "kafka_sasl_mechanism",
    "chain.partitions": "partitions",
    "chain.windowOffsets": "window_offsets",
    "chain.windowSeconds": "window_seconds",
    "tuning.batchRecordsMax": "batch_records_max",
    "tuning.batchBytesMax": "batch_bytes_max",
    "tuning.batchAgeSeconds": "batch_age_seconds",
    "tuning.gatherSeconds": "gather_seconds",
    "tuning.transactionTimeoutSeconds": "transaction_timeout_seconds",
    "tuning.sessionTimeoutSeconds": "session_timeout_seconds",
    "tuning.requestTimeoutSeconds": "request_timeout_seconds",
    "logs.level": "log_level",
    "notary.tuning.roundSeconds": "round_seconds",
    "notary.tuning.roundAgeSecondsMax": "round_age_seconds_max",
    "notary.anchors.seconds": "timestamp_seconds",
    "notary.anchors.lock.days": "lock_days",
    "relay.table": "outbox_table",
    "relay.tuning.rowsMax": "outbox_rows_max",
    "relay.tuning.pollSeconds": "outbox_poll_seconds",
    "gateway.limits.eventsPerSecond": "gateway_events_per_second",
    "gateway.limits.burstEvents": "gateway_burst_events",
    "gateway.limits.bodyBytesMax": "gateway_body_bytes_max",
    "gateway.limits.connectionsMax": "gateway_connections_max",
    "gateway.limits.requestSeconds": "gateway_request_seconds",
    "gateway.limits.deliverySeconds": "gateway_delivery_seconds",
}

Path_ = tuple[str, ...]


def problems(values: Mapped) -> list[str]:
    """What the schema has against these values laid over the defaults."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(merged(DEFAULTS, values))]


def nested(path: Path_, value: Any) -> Mapped:
    """The values that set one key: `("a", "b"), 1` is `{"a": {"b": 1}}`."""
    for key in reversed(path):
        value = {key: value}
    return cast("Mapped", value)


def mappings_of(values: Mapped, path: Path_ = ()) -> Iterator[Path_]:
    """The paths of all mappings in the values whose keys are the chart's."""
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key not in FREE_MAPPINGS:
            yield from mappings_of(cast("Mapped", value), (*path, key))


def subschemas(schema: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Mapped]]:
    """Every schema inside the schema, with its path."""
    if isinstance(schema, Mapping):
        yield path, cast("Mapped", schema)
        for key, value in cast("Mapped", schema).items():
            yield from subschemas(value, (*path, key))


def resolved(schema: Mapped) -> Mapped:
    """Follow a reference into the definitions."""
    reference = cast("str | None", schema.get("$ref"))
    return SCHEMA["$defs"][reference.rpartition("/")[2]] if reference else schema


def undocumented(schema: Mapped, values: Mapped, path: str = "") -> Iterator[str]:
    """The properties of the schema that the default values do not show."""
    for name, declared in schema.get("properties", {}).items():
        if name == "global":
            continue
        if name not in values:
            yield f"{path}{name}"
        elif name not in FREE_MAPPINGS | PARTIAL_MAPPINGS and isinstance(values[name], dict):
            yield from undocumented(resolved(declared), values[name], f"{path}{name}.")


def test_the_schema_is_a_schema() -> None:
    """values.schema.json is valid JSON Schema, so that Helm can apply it."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_mapping_in_the_schema_is_closed() -> None:
    """No part of the values takes keys that nobody has thought of: a typing error never passes as a wish."""
    open_ones = [
        path
        for path, schema in subschemas(SCHEMA)
        if schema.get("type") == "object" and schema.get("additionalProperties", True) is True
    ]

    assert open_ones == [OPEN_ON_PURPOSE]


def test_the_defaults_pass() -> None:
    """values.yaml itself is valid, so `helm lint` needs nothing else."""
    assert problems({}) == []


def test_every_value_is_shown_with_its_default() -> None:
    """Who reads values.yaml has read all there is to set."""
    assert list(undocumented(SCHEMA, DEFAULTS)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_example_values_pass(case: Path) -> None:
    """Each example in ci/ is valid."""
    assert problems(load_yaml(case)) == []


@pytest.mark.parametrize("path", list(mappings_of(DEFAULTS)), ids=".".join)
def test_an_unknown_key_is_refused_everywhere(path: Path_) -> None:
    """A key that the chart does not know is refused on every level, and named."""
    found = problems(nested((*path, "unknownKey"), "x"))

    assert len(found) == 1
    assert "'unknownKey' was unexpected" in found[0]


BAD_VALUES: list[tuple[str, Any]] = [
    ("processor.replicas", -1),
    ("processor.replicas", "two"),
    ("processor.replicas", 1.5),
    ("chain.partitions", 0),
    ("chain.windowOffsets", 0),
    ("chain.windowSeconds", -86400),
    ("topics.epoch", 0),
    ("topics.prefix", "audit events"),
    ("instance", "Audit.Example.org"),
    ("instance", "https://audit.example.org"),
    ("instance", "a" * 121),
    ("image.tag", "latest"),
    ("image.digest", "sha256:abc"),
    ("image.repository", "registry.example.org/Sealstream:"),
    ("image.pullPolicy", "Sometimes"),
    ("kafka.bootstrapServers", "kafka.example.org"),
    ("kafka.bootstrapServers", "kafka:9092,"),
    ("kafka.bootstrapServers", ["kafka:9092"]),
    ("kafka.securityProtocol", "TLS"),
    ("kafka.saslMechanism", "GSSAPI"),
    ("kafka.credentials.password", "secret"),
    ("kafka.credentials.password.value", "secret"),
    ("database.writer.url", "postgresql://"),
    ("database.writer.existingSecret", "Store Writer"),
    ("verifier.kafkaCredentials.password.value", "secret"),
    ("registry.url", "registry.example.org"),
    ("registry.url", "https://user:password@registry.example.org"),
    ("web.port", 80),
    ("web.host", "localhost"),
    ("logs.level", "verbose"),
    ("sink.resources.limits.memory", "1 GB"),
    ("sink.resources.limits.gpu", "1"),
    ("sink.nodeSelector", {"disk": 1}),
    ("sink.tolerations", [{"key": "a", "operator": "Like"}]),
    ("sink.podAnnotations", {"container.apparmor.security.beta.kubernetes.io/sink": "unconfined"}),
    ("podDisruptionBudget.maxUnavailable", 0),
    ("topicsJob.deadlineSeconds", 0),
    ("serviceMonitor.interval", "often"),
    ("notary.replicas", 2),
    ("notary.policy", ["log x"]),
    ("notary.rotations", "PRIVATE+KEY+example.org+x"),
    ("notary.storage.url", "https://log.example.org"),
    ("notary.storage.url", "/var/lib/log"),
    ("notary.storage.environment", {"AWS_SESSION_TOKEN": "x"}),
    ("notary.storage.volume.accessMode", "ReadOnlyMany"),
    ("notary.anchors.lock.url", "gs://locked"),
    ("notary.anchors.lock.days", 0),
    ("notary.tuning.roundSeconds", 0),
    ("notary.database.notary.url", "postgresql://"),
    ("witness.replicas", 2),
    ("witness.policy", "PRIVATE+KEY+example.org+x"),
    ("witness.recompute.storage.url", "s3://key:secret@audit-log"),
    ("witness.recompute.storage.environment", {"AWS_SECRET_ACCESS_KEY": "x"}),
    ("witness.recompute.storage.environment", {"SEALSTREAM_KAFKA": "x"}),
    ("witness.volume.accessMode", "ReadWriteMany"),
    ("relay.table", "audit outbox"),
    ("relay.table", "a.b.audit_outbox"),
    ("relay.database.url", "postgresql://"),
    ("relay.tuning.rowsMax", 10_001),
    ("gateway.port", 80),
    ("gateway.secret.value", "5a5a"),
    ("gateway.tokens.jwksUrl", "http://login.example.org/keys"),
    ("gateway.tokens.algorithms", ["HS256"]),
    ("gateway.tokens.algorithms", []),
    ("gateway.tokens.tenantClaim", ""),
    ("gateway.limits.burstEvents", 999),
    ("gateway.spool.size", "much"),
    ("gateway.spool.accessMode", "ReadWriteMany"),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES, ids=[f"{key}={value!r:.24}" for key, value in BAD_VALUES])
def test_a_bad_value_is_refused_where_it_stands(key: str, value: object) -> None:
    """A value out of its range is refused, and the message names the key (or the mapping that does not know it)."""
    found = problems(nested(tuple(key.split(".")), value))

    assert found
    assert all(message.startswith(f"$.{key.split('.', maxsplit=1)[0]}") for message in found)


@pytest.mark.parametrize("key", SETTINGS)
def test_the_chart_allows_what_sealstream_allows(key: str) -> None:
    """A value has the limits of its setting, so that it is refused at installation and not in a crashing pod."""
    limits = ("minimum", "exclusiveMinimum", "maximum", "enum", "pattern", "maxLength")
    declared = SCHEMA
    for name in key.split("."):
        declared = resolved(declared["properties"][name])
    setting = Settings.model_json_schema()["properties"][SETTINGS[key]]

    assert {limit: _comparable(declared[limit]) for limit in limits if limit in declared} == {
        limit: _comparable(setting[limit]) for limit in limits if limit in setting
    }


def _comparable(limit: Any) -> Any:
    """An enumeration counts as a set."""
    return sorted(cast("list[str]", limit)) if isinstance(limit, list) else limit


def test_the_chart_has_the_version_of_the_project() -> None:
    """A chart of version X installs Sealstream of version X."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = load_yaml(CHART / "Chart.yaml")

    assert (project["version"], project["version"]) == (chart["version"], chart["appVersion"])
    assert (chart["apiVersion"], chart["name"]) == ("v2", project["name"])
