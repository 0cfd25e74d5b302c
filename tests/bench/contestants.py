"""Who takes part in the benchmark ``chain``: the processor and its peers, and how each is started."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.bare_loop import Task
from bench.contest import Entrant, Launch, arguments, as_json
from sealstream.deploy.stack.artifacts import Pin, check_classpath, fetch, read_pins
from sealstream.deploy.stack.kafka import KAFKA_VERSION
from sealstream.deploy.stack.locations import cache_directory
from sealstream.kafka.topics import TopicNames
from sealstream.schemas.entry import Genesis
from sealstream.worker.settings import PREFIX

_HERE: Final = Path(__file__).resolve().parent
_JAVA_LEAST: Final = 17
_STREAMS: Final = Pin(
    sha256="3e275e8a224035b7dab6344eef518fc125f6f17f3ac191b16d5ef5b55dada0a6",
    size_bytes=2_049_634,
    coordinate=f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}",
)
# What of the broker's own files the library needs as well. RocksDB stays out: the store is in memory.
_STREAMS_NEEDS: Final = ("kafka-clients", "slf4j-api", "log4j-slf4j-impl", "log4j-api", "log4j-core", "lz4-java")
STREAMS_SETTINGS: Final[dict[str, str]] = {
    "num.stream.threads": "2",
    "commit.interval.ms": "100",
    "statestore.cache.max.bytes": str(64 * 1024 * 1024),
    "auto.offset.reset": "earliest",
    "producer.compression.type": "lz4",
    "producer.linger.ms": "5",
    "producer.batch.size": str(512 * 1024),
    "producer.buffer.memory": str(256 * 1024 * 1024),
    "buffered.records.per.partition": "20000",  # at its default of 1000 a thread pauses partitions all the time
    "consumer.max.poll.records": "10000",
    "consumer.max.partition.fetch.bytes": str(4 * 1024 * 1024),
    "consumer.fetch.max.bytes": str(64 * 1024 * 1024),
    "log.summary.interval.ms": "-1",
    "metrics.recording.level": "INFO",
}
_JAVA_FLAGS: Final = ("-Xms1g", "-Xmx1g", "-XX:+UseParallelGC")


def ours(names: TopicNames, genesis: Genesis, settings: dict[str, str]) -> Entrant:
    """Return the processor, as production runs it.

    Arguments:
        names: The instance's topics.
        genesis: What its chains pin.
        settings: More settings by their names in lower case.
    """
    values = {
        "topic_prefix": names.prefix,
        "instance": genesis.instance,
        "partitions": str(genesis.partitions),
        "window_offsets": str(genesis.window_offsets),
        "window_seconds": str(genesis.window_seconds),
        "worker_id": "bench",
        "log_format": "json",
        **settings,
    }

    def launch(task: Task) -> Launch:
        environment = {f"{PREFIX}{name.upper()}": value for name, value in values.items()}
        return Launch(
            (sys.executable, "-m", "sealstream.deploy", "processor"),
            group=f"{genesis.instance}-processor",
            environment=environment | {f"{PREFIX}KAFKA": task.bootstrap},
        )

    return Entrant("ours", launch, chained=names.chained, heads=names.heads)


def bare_loop() -> Entrant:
    """Return the loop that does nothing but the work."""
    return Entrant(
        "bare_loop", lambda task: Launch((sys.executable, "-m", "bench.bare_loop", as_json(task)), group=task.group)
    )


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that can run a source file.

    Arguments:
        path: Its command.
        version: Its version.
    """

    path: str
    version: str


def find_java() -> Java | None:
    """Return a Java 17 or later that has its compiler, if there is one on the path or in JAVA_HOME."""
    home = shutil.which("java")
    if home is None or shutil.which("javac") is None:
        return None
    text = subprocess.run([home, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    match = re.search(r'version "((\d+)[^"]*)"', text)
    return Java(home, match[1]) if match is not None and int(match[2]) >= _JAVA_LEAST else None


def kafka_streams(java: Java, state: Path, progress: Callable[[str], None], settings: dict[str, str]) -> Entrant:
    """Return the Kafka Streams application.

    Arguments:
        java: What runs it.
        state: Where Kafka Streams keeps its state directory.
        progress: Told of downloads.
        settings: Settings of Kafka Streams besides :data:`STREAMS_SETTINGS`.
    """
    folder = cache_directory() / f"kafka-{KAFKA_VERSION}"
    needed = [pin for pin in read_pins(f"kafka-{KAFKA_VERSION}.pins") if _artifact(pin) in _STREAMS_NEEDS]
    needed += [pin for pin in read_pins(f"kafka-{KAFKA_VERSION}.pins") if _artifact(pin).startswith("jackson-")]
    pins = (_STREAMS, *needed)
    jars = fetch(pins, what="Kafka Streams", folder=folder, called_off=threading.Event(), report=progress)
    command = (java.path, *_JAVA_FLAGS, "-cp", check_classpath(jars), str(_HERE / "ChainStreams.java"))

    def launch(task: Task) -> Launch:
        given = arguments(task)
        given |= {f"streams.{name}": value for name, value in (STREAMS_SETTINGS | settings).items()}
        given["streams.state.dir"] = str(state)
        return Launch(
            (*command, *(f"{name}={value}" for name, value in given.items())), group=task.group, topics=(task.group,)
        )

    return Entrant("kafka_streams", launch)


def faust_per_event() -> Entrant:
    """Return the ordinary Faust agent."""
    return Entrant(
        "faust_per_event",
        lambda task: Launch(
            (sys.executable, "-m", "bench.faust_per_event", as_json(task)), group=task.group, topics=(task.group,)
        ),
    )


def _artifact(pin: Pin) -> str:
    return pin.coordinate.split(":")[1]
