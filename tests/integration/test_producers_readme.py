"""The examples of the producers' README run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames, topic_table
from support.harness import read_log

README = Path(__file__).parents[2] / "producers" / "README.md"
FOUND = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
EXAMPLES = [text for text in FOUND if "registry" not in text]
"""Those that need Kafka alone; the one with a registry is run beside that of the registry's page."""
PARTITIONS = 4


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_publishes(kafka_bootstrap: str, number: int, tmp_path: Path) -> None:
    """Copied from the page, with one's own address, an example publishes its event and says nothing of errors."""
    names = TopicNames(prefix=f"t-{uuid.uuid4().hex[:8]}.")
    table = topic_table(names, partitions=PARTITIONS, window_seconds=86_400)
    TopicAdmin(KafkaConnection(kafka_bootstrap)).create(spec for spec in table if spec.name == names.events)
    address = 'kafka="localhost:9092", instance="example.com/audit"'
    script = EXAMPLES[number].replace(
        address, f"kafka={kafka_bootstrap!r}, instance='example.com/audit', topics=TopicNames({names.prefix!r})"
    )
    assert script != EXAMPLES[number]

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from sealstream.kafka.topics import TopicNames\n{script}"],
        cwd=tmp_path,  # a spool is made where the example says
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert sum(map(len, read_log(KafkaConnection(kafka_bootstrap), names.events, PARTITIONS))) == 1


def test_there_are_examples() -> None:
    """The page shows both fronts."""
    assert [name for name in ("AuditLog(", "SyncAuditLog(") if any(name in text for text in EXAMPLES)] == [
        "AuditLog(",
        "SyncAuditLog(",
    ]
