"""The examples of the gateway's README run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sealstream.deploy.stack.ports import free_port
from support.gateway import START_SECONDS
from support.shell import COMMAND_SECONDS, Shell
from support.workers import Pipeline, Worker, wait_for

pytest_plugins = ("support.gateway_fixtures",)

README = Path(__file__).parents[2] / "producers" / "sealstream" / "producers" / "gateway" / "README.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's example of a client is curl")
def test_the_page_leads_to_a_receipt(instance: Pipeline, tmp_path: Path) -> None:
    """Copied from the page, with one's own addresses, the commands start a gateway that answers curl with a receipt."""
    serving, asking = BLOCKS
    port = str(free_port())
    serving = serving.replace("localhost:9092", instance.bootstrap).replace("8080", port)
    command = serving.replace("sealstream gateway\n", "exec sealstream gateway\n")  # its process is the shell's
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"SEALSTREAM_TOPIC_PREFIX": instance.topics.prefix, "PATH": path}
    worker = Worker("gateway", settings, tmp_path / "gateway.log", command=["bash", "-ec", command], directory=tmp_path)
    try:
        wait_for(
            lambda: "gateway listening" in worker.log() or worker.process.poll() is not None,
            timeout_seconds=START_SECONDS,
            what="the gateway",
        )
        asked = subprocess.run(
            ["bash", "-ec", asking.replace("8080", port)],
            cwd=tmp_path, env=Shell().environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    finally:
        worker.close()

    assert asked.returncode == 0, f"{asked.stderr}\n{worker.log()}"
    receipt = json.loads(asked.stdout)
    assert (receipt["tenant"], receipt["state"]) == ("acme", "published")
