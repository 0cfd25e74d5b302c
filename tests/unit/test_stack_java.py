"""How the local stack's Java programs are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealstream.deploy.stack import JavaTuning
from sealstream.deploy.stack.java import java_command
from sealstream.deploy.stack.kafka import KafkaServer
from sealstream.deploy.stack.server import Surroundings


def kafka_command(directory: Path, *, tuning: JavaTuning = JavaTuning.QUICK_START) -> list[str]:
    """Return the command line of a broker that is not started."""
    server = KafkaServer(directory, port=1, controller_port=2, surroundings=Surroundings(), tuning=tuning)
    return server.command("kafka.jar")


def test_kafka_starts_quickly_unless_asked_otherwise(tmp_path: Path) -> None:
    """Tests and demonstrations, which live for seconds, do not pay for a compiler that only pays after them."""
    command = kafka_command(tmp_path)

    assert {"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"} <= set(command)
    assert command[-4:] == ["-cp", "kafka.jar", "kafka.Kafka", "server.properties"]


def test_kafka_for_long_load_compiles_what_is_hot(tmp_path: Path) -> None:
    """A broker that is started for long load has the whole compiler, a concurrent collector and the heap for it."""
    command = kafka_command(tmp_path, tuning=JavaTuning.LONG_LOAD)

    assert {"-XX:+UseG1GC", "-Xmx1024m"} <= set(command)
    assert not [flag for flag in command if "SerialGC" in flag or "TieredStopAtLevel" in flag]


@pytest.mark.parametrize("tuning", JavaTuning)
def test_every_java_program_ends_when_its_memory_does(tmp_path: Path, tuning: JavaTuning) -> None:
    """However it is tuned, a program has a bounded heap, ends when that is full, and needs no screen."""
    command = java_command(heap_mebibytes=64, temporary=tmp_path, tuning=tuning)

    assert "-Xmx64m" in command
    assert {"-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", f"-Djava.io.tmpdir={tmp_path}"} <= set(command)
