"""Programs in Java that stand in the tests' tree, compiled by Eclipse's compiler: it needs a runtime alone."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sealstream.deploy.stack.artifacts import Pin, check_classpath, fetch, read_pins
from sealstream.deploy.stack.java import java_command
from sealstream.deploy.stack.kafka import KAFKA_VERSION
from sealstream.deploy.stack.locations import cache_directory

KAFKA_CLIENT: Final = ("kafka-clients", "slf4j-api")
JACKSON: Final = ("jackson-annotations", "jackson-core", "jackson-databind")
AVRO: Final = Pin(
    sha256="1f5fbfff9b7427d6832cc3031a3c81413d3e21d9e2551847d9231c28493f9492",
    size_bytes=713_436,
    coordinate="org.apache.avro:avro:1.12.0",
)
_COMPILER: Final = Pin(
    sha256="47bda183cd94a8bdb704f5b35690224f75b7d2fb563c8b8f9bbcfab987c3029b",
    size_bytes=3_319_427,
    coordinate="org.eclipse.jdt:ecj:3.41.0",
)
_LANGUAGE: Final = "-21"
_HEAP_MEBIBYTES: Final = 256
_COMPILE_SECONDS: Final = 120.0


def java_program(source: Path, directory: Path, *, kafka: Sequence[str] = (), others: Sequence[Pin] = ()) -> list[str]:
    """Compile a Java program, and return the command that runs it; a program that does not compile fails the test.

    Arguments:
        source: Its one file, named after its class.
        directory: Where classes and temporary files are put.
        kafka: Files that the broker has as well, by their names without a version.
        others: Files of its own from Maven Central.
    """
    shared = tuple(pin for pin in read_pins(f"kafka-{KAFKA_VERSION}.pins") if pin.coordinate.split(":")[1] in kafka)
    # The broker's own files lie in its folder already.
    jars = _fetch(shared, f"kafka-{KAFKA_VERSION}") + _fetch(tuple(others), "tests-java")
    (compiler,) = _fetch((_COMPILER,), "tests-java")
    classes = directory / "classes"
    java = java_command(heap_mebibytes=_HEAP_MEBIBYTES, temporary=directory)
    command = [*java, "-jar", str(compiler), _LANGUAGE, "-cp", check_classpath(jars), "-d", str(classes), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    assert done.returncode == 0, f"{source.name} does not compile:\n{done.stderr}"
    return [*java, "-cp", check_classpath((classes, *jars)), source.stem]


def _fetch(pins: tuple[Pin, ...], folder: str) -> tuple[Path, ...]:
    return fetch(
        pins,
        what="a test's Java program",
        folder=cache_directory() / folder,
        called_off=threading.Event(),
        report=lambda _: None,
    )
