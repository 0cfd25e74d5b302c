"""Makes the list of pinned files of a Java program: run it to upgrade, and review what changed.

::

    python -m sealstream.deploy.stack.pin org.apache.kafka:kafka_2.13:4.1.0 >kafka-4.1.0.pins

jgo resolves the dependencies as Maven would. A coordinate with ``:classifier:packaging`` is taken alone.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import jgo
from jgo.maven import Artifact, MavenContext

_PARTS_WITH_CLASSIFIER = 5


def pin_lines(coordinates: list[str]) -> list[str]:
    """Resolve and download these programs and describe each of their files.

    Arguments:
        coordinates: Maven coordinates, as in a list of pins.
    """
    lines: set[str] = set()
    for coordinate in coordinates:
        parts = coordinate.split(":")
        if len(parts) == _PARTS_WITH_CLASSIFIER:
            group, name, version, classifier, packaging = parts
            artifact = MavenContext().project(group, name).at_version(version).artifact(classifier, packaging)
            lines.add(_line(artifact.resolve(), coordinate))
        else:
            lines.update(_line(artifact.resolve(), _coordinate(artifact)) for artifact in jgo.resolve(coordinate))
    return sorted(lines, key=lambda line: line.split()[2])


def _coordinate(artifact: Artifact) -> str:
    plain = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return f"{plain}:{artifact.classifier}:{artifact.packaging}" if artifact.classifier else plain


def _line(path: Path, coordinate: str) -> str:
    content = path.read_bytes()
    return f"{hashlib.sha256(content).hexdigest()} {len(content):>9} {coordinate}"


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in pin_lines(sys.argv[1:])))
