"""The examples of the adapters' README run as they stand, against a real Kafka."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames, topic_table
from sealstream.schemas.codec import EventReader
from support.harness import read_log

README = Path(__file__).parents[2] / "producers" / "sealstream" / "producers" / "adapters" / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
ADDRESS = 'kafka="localhost:9092", instance="example.com/audit"'
DJANGO = "from support import django_app\ndjango_app.migrate()\n"
PARTITIONS = 4


def test_each_example_logs_its_event(kafka_bootstrap: str) -> None:
    """Copied from the page, with one's own address, each example publishes one event and says nothing of errors."""
    names = TopicNames(prefix=f"t-{uuid.uuid4().hex[:8]}.")
    table = topic_table(names, partitions=PARTITIONS, window_seconds=86_400)
    TopicAdmin(KafkaConnection(kafka_bootstrap)).create(spec for spec in table if spec.name == names.events)
    own = f"kafka={kafka_bootstrap!r}, instance='example.com/audit', topics=TopicNames({names.prefix!r})"
    for example in EXAMPLES:
        script = example.replace(ADDRESS, own)
        assert script != example or "settings.py" in example
        start = DJANGO if "django.contrib.auth.models" in example else ""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", f"{start}from sealstream.kafka.topics import TopicNames\n{script}"],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    logs = read_log(KafkaConnection(kafka_bootstrap), names.events, PARTITIONS)
    events = [EventReader().read(record.value or b"") for log in logs for record in log]
    assert [(event.tenant, event.action, event.actor.id) for event in events] == [
        ("acme", "document.updated", "42"),
        ("acme", "document.read", "42"),
        ("acme", "document.updated", "42"),
        ("acme", "document.updated", "42"),
        ("acme", "document.created", "42"),
        ("acme", "group.created", "42"),
    ]
    assert [event.context.ip for event in events if event.action == "document.read"] == ["198.51.100.7"]
