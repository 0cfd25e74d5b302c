"""The examples of the outbox's README run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest

from support.outbox import OutboxStage

README = Path(__file__).parents[2] / "producers" / "sealstream" / "producers" / "outbox" / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
DJANGO = """
from support import django_app
import os
import sys
from urllib.parse import urlsplit
django_app.set_up()
from django.db import connections
context = django_app.database("default", os.environ["SEALSTREAM_OUTBOX_DATABASE"])
context.__enter__()
"""


@pytest.fixture
def stage(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> Generator[OutboxStage]:
    """An outbox with the application's table that the page speaks of."""
    made = OutboxStage(kafka_bootstrap, database_url, tmp_path)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE document (id int PRIMARY KEY, title text)")
        connection.execute("INSERT INTO document VALUES (7, 'Draft')")
    yield made
    made.close()


def test_the_examples_commit_an_event_with_the_data(stage: OutboxStage) -> None:
    """Copied from the page, each example changes the document and adds its event; the relay publishes all of them."""
    for number, example in enumerate(EXAMPLES):
        with psycopg.connect(stage.url) as connection:
            connection.execute("UPDATE document SET title = 'Draft'")
        done = subprocess.run(
            [sys.executable, "-c", (DJANGO if "django" in example else "") + example],
            env=os.environ | {"SEALSTREAM_OUTBOX_DATABASE": stage.url, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert stage.query("SELECT title FROM document") == [("Plan",)]
        assert stage.rows() == number + 1

    with stage.relaying():
        stage.wait_until_empty()

    assert len(stage.published_ids()) == len(EXAMPLES) == 4
