"""The local stack's Schema Registry: a real one, behind Confluent's interface."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import psutil
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

SUBJECT = "stack-test-value"


def _schema(*fields: dict[str, object]) -> Schema:
    record = {"type": "record", "name": "Probe", "namespace": "stack.test", "fields": list(fields)}
    return Schema(json.dumps(record), "AVRO")


def test_the_registry_keeps_schemas_and_refuses_incompatible_ones(registry_url: str) -> None:
    """Confluent's own client registers, finds and checks schemas against it, as against Confluent's registry."""
    with SchemaRegistryClient({"url": registry_url}) as client:
        number = client.register_schema(SUBJECT, _schema({"name": "id", "type": "string"}))
        client.set_compatibility(SUBJECT, level="FULL_TRANSITIVE")

        assert client.get_latest_version(SUBJECT).schema_id == number
        assert "Probe" in str(client.get_schema(number).schema_str)
        with pytest.raises(SchemaRegistryError) as caught:
            client.register_schema(SUBJECT, _schema({"name": "id", "type": "int"}))
        assert caught.value.http_status_code == 409


def test_the_registry_listens_on_loopback_only(registry_url: str) -> None:
    """Neither its interface nor its health pages can be reached from another machine."""
    port = urlsplit(registry_url).port
    listening = [
        (entry.laddr.ip, entry.laddr.port, entry.pid)
        for entry in psutil.net_connections(kind="inet")
        if entry.laddr and entry.status == psutil.CONN_LISTEN
    ]
    (server,) = {pid for _, at, pid in listening if at == port}

    addresses = {ip for ip, _, pid in listening if pid == server}
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}
