"""Logs: one JSON object a line, the keys that people look for first, for the libraries' lines too."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import structlog

from sealstream.kafka.client import KAFKA_LOG
from sealstream.worker import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged, line by line; nothing may go to standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_order_of_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, event and role come first, then the place, then the rest."""
    logs.configure("processor", format="json")
    logs.logger().warning("batch chained", records=7, offset=5, partition=3, topic="t", seq=2, tenant="acme", bytes=9)
    (line,) = lines(capsys)
    first = ["timestamp", "level", "event", "role", "tenant", "seq", "topic", "partition", "offset"]
    assert list(line) == [*first, "records", "bytes"]
    assert (line["level"], line["event"], line["role"]) == ("warning", "batch chained", "processor")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not logged."""
    logs.configure("sink", level="warning", format="json")
    logs.logger().info("quiet")
    logs.logger().error("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_the_kafka_client_does_not_say_the_same_over_and_over(capsys: pytest.CaptureFixture[str]) -> None:
    """While brokers are away, its attempts to connect are one line every few seconds, not hundreds."""
    logs.configure("sink", format="json")
    for n in range(100):
        KAFKA_LOG.error("broker:9092: Connection refused (after %dms in state CONNECT)", n)
    assert len(lines(capsys)) == 1


def test_libraries_log_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of libraries that use the standard logging have the same form."""
    logs.configure("verifier", format="json")
    logging.getLogger("some.library").warning("it is %s", "odd")
    (line,) = lines(capsys)
    assert list(line) == ["timestamp", "level", "event", "role"]
    assert (line["event"], line["role"]) == ("it is odd", "verifier")


def test_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break in a value does not break the line, so nobody can forge one."""
    logs.configure("sink", format="json")
    logs.logger().info("refused", tenant='a\n{"event": "forged"}')
    (line,) = lines(capsys)
    assert line["event"] == "refused"


def test_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback stands in its line, without the values of variables."""
    logs.configure("sink", format="json")
    payload = "the payload of " + "an event"

    def refuse(value: str) -> None:
        raise ValueError(f"{len(value)} bytes are too many")

    try:
        refuse(payload)
    except ValueError:
        logs.logger().exception("batch failed", partition=1)
    (line,) = lines(capsys)
    assert "ValueError: 23 bytes are too many" in line["exception"]
    assert payload not in json.dumps(line)


def test_configured_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Configuring twice does not log twice."""
    logs.configure("sink", format="json")
    logs.configure("verifier", format="json")
    logs.logger().info("once")
    assert [line["role"] for line in lines(capsys)] == ["verifier"]


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """For a person at a terminal a line is text; auto writes JSON where there is no terminal."""
    logs.configure("sink", format="console")
    logs.logger().info("batch stored", records=7)
    text = capsys.readouterr().err
    assert "batch stored" in text
    assert not text.startswith("{")
    logs.configure("sink", format="auto")
    logs.logger().info("batch stored")
    assert lines(capsys)[0]["event"] == "batch stored"


def test_a_command_that_configures_nothing_keeps_its_output_for_its_result() -> None:
    """What a shared part warns of in a command stands on standard error, and what it only tells nowhere."""
    script = "from sealstream.worker.logs import logger; logger().info('told'); logger().warning('warned', size=7)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "warned" in done.stderr
    assert "told" not in done.stderr
