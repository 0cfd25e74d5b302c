"""The outbox without a database: names, rows, what is refused, and Debezium's configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sealstream.kafka.topics import TopicNames
from sealstream.producers import Actor, AuditEvent, EventInvalid
from sealstream.producers.outbox import Outbox, OutboxTable
from sealstream.producers.outbox.table import AGGREGATE_TYPE, SHARDS
from sealstream.producers.relay.rows import WaitingRow, refusal_of
from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import VALUE_BYTES_MAX, is_event_id, payload_digest
from sealstream.schemas.errors import ClientUnusable, ConfigError
from support.publish import event_value

README = Path(__file__).parents[2] / "producers" / "sealstream" / "producers" / "outbox" / "README.md"
ROW_ID = "01900000-0000-7000-8000-000000000001"
EVENT_ID = f"outbox:audit_outbox:{ROW_ID}"


class Executed:
    """What a driver's connection was given to run."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def execute(self, query: str, parameters: Any, /) -> None:
        """Take a statement."""
        self.calls.append((query, parameters))


class TestTable:
    """Names, and the SQL made of them."""

    @pytest.mark.parametrize("name", ["", "Audit", "a-b", 'a"b', "a.b.c", "a;b", "ä", "1a", "a" * 49])
    def test_a_name_that_would_need_quotes_is_refused(self, name: str) -> None:
        """What stands in SQL and in event ids is made of plain letters, and not too long."""
        with pytest.raises(ConfigError):
            OutboxTable(name)

    def test_a_name_with_a_schema_reaches_every_part(self) -> None:
        """Table, shards and function lie in the schema; nothing is left to be filled in."""
        script = OutboxTable("billing.trail").create_sql()

        for part in (
            '"billing"."trail" (',
            '"billing"."trail_shards"',
            '"billing"."trail_notify"()',
            "'billing.trail'",
        ):
            assert part in script
        assert re.findall(r"\{\w+\}", script) == []
        assert f"& {SHARDS - 1})" in script

    def test_without_notify_there_is_no_trigger(self) -> None:
        """Commits that would queue for the server's lock can be spared."""
        assert "TRIGGER" not in OutboxTable().create_sql(notify=False)

    def test_a_role_is_quoted(self) -> None:
        """A role's name is a name, whatever it is made of; what cannot be one is refused."""
        assert 'TO "a""; b";\n' in OutboxTable().grant_sql(writer='a"; b')
        with pytest.raises(ConfigError):
            OutboxTable().grant_sql(relay="a\nb")

    def test_the_longest_name_makes_valid_ids(self) -> None:
        """Whatever the table is called, its events' ids are valid."""
        assert is_event_id(OutboxTable("s." + "t" * 46).event_id(ROW_ID))


class TestRow:
    """What is inserted."""

    def test_the_row_holds_the_final_bytes_under_its_own_id(self) -> None:
        """The payload names the row, and is what the digest is of."""
        executed = Executed()
        event = AuditEvent(tenant="acme", id=ROW_ID, actor=Actor("user", "u-1"), action="document.updated")

        row = Outbox().log(executed, event)

        assert executed.calls == [(OutboxTable().insert_sql, (ROW_ID, "acme", "document.updated", row.value))]
        found = EventReader().read(row.value)
        assert (found.id, found.salt) == (EVENT_ID, event.salt)
        assert (row.id, row.digest) == (EVENT_ID, payload_digest(row.value))
        assert refusal_of(WaitingRow(row.row_id, row.tenant, row.value)) is None

    def test_each_row_gets_an_id_that_sorts_by_time(self) -> None:
        """Rows get a UUID of version 7 each."""
        rows = [Outbox().log(Executed(), tenant="a", actor="user:1", action="b.c") for _ in range(2)]

        assert rows[0].row_id != rows[1].row_id
        assert [row.row_id[14] for row in rows] == ["7", "7"]

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"id": "order-7"}, "id"),
            ({"tenant": "no tenant"}, "tenant"),
            ({"action": "a\x00b"}, "action"),
            ({"metadata": {"note": "x" * VALUE_BYTES_MAX}}, "event"),
        ],
    )
    def test_what_could_not_be_published_is_refused_at_once(self, fields: dict[str, Any], field: str) -> None:
        """The caller learns it while there is still a transaction to roll back; nothing is inserted."""
        executed = Executed()
        given: dict[str, Any] = {"tenant": "acme", "actor": "user:1", "action": "b.c"} | fields
        with pytest.raises(EventInvalid) as raised:
            Outbox().log(executed, **given)

        assert raised.value.field == field
        assert executed.calls == []

    @pytest.mark.parametrize(("status", "is_refused"), [(0, True), (2, False)])
    def test_autocommit_is_refused_unless_a_transaction_is_open(self, *, status: int, is_refused: bool) -> None:
        """What libpq says of the transaction decides: 0 is idle, 2 is within a transaction."""

        class Connection(Executed):
            autocommit = True
            info = type("Info", (), {"transaction_status": status})()

        connection = Connection()
        if is_refused:
            with pytest.raises(ClientUnusable):
                Outbox().log(connection, tenant="acme", actor="user:1", action="b.c")
        else:
            Outbox().log(connection, tenant="acme", actor="user:1", action="b.c")
        assert len(connection.calls) == (0 if is_refused else 1)


class TestRefusal:
    """What the relay sets aside before it asks for more."""

    @pytest.mark.parametrize(
        ("value", "word"),
        [
            (b"", "no event"),
            (b"\x00", "no event"),
            (b"x" * (VALUE_BYTES_MAX + 1), "more than"),
            (event_value("globex", EVENT_ID), "tenant"),
            (event_value("acme", "order-7"), "id"),
            (event_value("acme", EVENT_ID[:-1] + "2"), "id"),
        ],
        ids=["empty", "cut", "large", "tenant", "foreign id", "another row's"],
    )
    def test_it_says_why(self, value: bytes, word: str) -> None:
        """Each reason names what is wrong."""
        reason = refusal_of(WaitingRow(ROW_ID, "acme", value))

        assert reason is not None
        assert word in reason

    def test_a_renamed_table_is_no_reason(self) -> None:
        """What was inserted under the table's old name is published."""
        assert refusal_of(WaitingRow(ROW_ID, "acme", event_value("acme", f"outbox:old:{ROW_ID}"))) is None


class TestDebezium:
    """The configuration in the README."""

    def test_it_names_the_tables_columns_and_the_topic(self) -> None:
        """Each field that the event router is told to use is a column, and it routes everything to the source topic."""
        [text] = re.findall(r"^```json\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        config: dict[str, str] = json.loads(text)["config"]
        router = {
            name.removeprefix("transforms.outbox."): value
            for name, value in config.items()
            if name.startswith("transforms.outbox.")
        }
        columns = re.findall(r'^  "?(\w+)"? +(?:uuid|varchar|text|bytea)', OutboxTable().create_sql(), re.MULTILINE)

        assert router.pop("type") == "io.debezium.transforms.outbox.EventRouter"
        assert router.pop("route.topic.replacement") == TopicNames().events
        assert router == {
            "table.field.event.id": columns[0],
            "route.by.field": columns[1],
            "table.field.event.key": columns[2],
            "table.field.event.payload": columns[4],
        }
        assert config["table.include.list"] == f"public.{OutboxTable().name}"
        assert config["value.converter"] == "io.debezium.converters.BinaryDataConverter"
        assert "binary.handling.mode" not in config  # bytes by default
        assert f"'{AGGREGATE_TYPE}'" in OutboxTable().insert_sql
