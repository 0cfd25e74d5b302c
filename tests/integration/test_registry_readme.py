"""The examples of the registry's README run as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from sealstream.deploy.cli.application import run
from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames, topic_table
from sealstream.worker.settings import PREFIX
from support.harness import read_log

PRODUCERS = Path(__file__).parents[2] / "producers"
TEXT = (PRODUCERS / "sealstream/producers/registry/README.md").read_text(encoding="utf-8")
TEXTS = {"registry": TEXT, "producers": (PRODUCERS / "README.md").read_text(encoding="utf-8")}
PARTITIONS = 4


def _example(page: str) -> str:
    """Return the one example of a page that asks a registry."""
    found = re.findall(r"^```python\n(.*?)^```$", TEXTS[page], re.DOTALL | re.MULTILINE)
    (example,) = [text for text in found if "schema_id_from_registry" in text]
    return str(example)


@pytest.mark.parametrize("page", TEXTS)
def test_the_example_publishes_with_the_schemas_id(
    kafka_bootstrap: str,
    registry_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    page: str,
) -> None:
    """Copied from its page, with one's own addresses, it writes a value that begins with the registered id."""
    names = TopicNames(prefix=f"t-{uuid.uuid4().hex[:8]}.")
    table = topic_table(names, partitions=PARTITIONS, window_seconds=86_400)
    TopicAdmin(KafkaConnection(kafka_bootstrap)).create(spec for spec in table if spec.name == names.events)
    monkeypatch.setenv(f"{PREFIX}REGISTRY", registry_url)
    monkeypatch.setenv(f"{PREFIX}TOPIC_PREFIX", names.prefix)
    assert run(["schemas", "register", "--no-chains"]) == 0
    schema_id = int(capsys.readouterr().out.rstrip().rpartition(" ")[2])
    topics = f"topics=TopicNames({names.prefix!r})"
    script = _example(page).replace('("http://localhost:8081")', f"({registry_url!r}, {topics})")
    script = script.replace('kafka="localhost:9092"', f"kafka={kafka_bootstrap!r}, {topics}")
    assert script.count(names.prefix) == 2

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from sealstream.kafka.topics import TopicNames\n{script}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    logs = read_log(KafkaConnection(kafka_bootstrap), names.events, PARTITIONS)
    (record,) = [record for records in logs for record in records]
    assert record.value is not None
    assert record.value[:5] == b"\x00" + schema_id.to_bytes(4, "big")


def test_its_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command on the page is one, with those options."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^sealstream (schemas .*)$", "\n".join(blocks), re.MULTILINE)
    lines += re.findall(r"`(?:sealstream )?(schemas [^`]*)`", TEXT)
    assert lines
    for line in lines:
        words = shlex.split(line)[:2]
        assert run([*words, "--help"]) == 0, line
        said = capsys.readouterr().out
        assert all(option in said for option in re.findall(r"--[a-z-]+", line)), line
