"""The OpenAPI document is true: what it allows is taken, what it does not is refused, in words that it names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.gateway import GatewayProcess, event

pytest_plugins = ("support.gateway_fixtures",)

EXAMPLES = 15
SECONDS_MAX = 20
"""When schemathesis begins no further requests; on a machine with nothing else to do it has ended long before."""
REFUSALS = (207, 400, 401, 403, 404, 405, 406, 413, 415, 422)
"""What an answer to a request that breaks the document may be; 207 where one event of a batch breaks it."""


@pytest.mark.slow
def test_the_gateway_does_what_its_document_says(gateway: GatewayProcess, tmp_path: Path) -> None:
    """Schemathesis' requests, made of the document, right ones and wrong ones, all get an answer that it allows."""
    (tmp_path / "schemathesis.toml").write_text(
        f"[checks.negative_data_rejection]\nexpected-statuses = {list(REFUSALS)}\n", encoding="utf-8"
    )

    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.address}/openapi.json",
            "--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES),
            "--generation-deterministic", "--max-time", str(SECONDS_MAX), "--warnings", "off",
            "--header", f"Authorization: Bearer {gateway.token}", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert " generated" in done.stdout, done.stdout


def test_the_document_is_there_for_everybody(gateway: GatewayProcess) -> None:
    """Without a key one learns how to ask: OpenAPI 3.1, with an example that is taken as it stands."""
    document = gateway.get("/openapi.json").document

    publish = document["paths"]["/v1/events"]["post"]
    assert document["openapi"].startswith("3.1.")
    assert publish["security"] == [{"bearer": []}]
    assert gateway.post(publish["requestBody"]["content"]["application/json"]["example"]).status == 202


def test_every_answer_is_named(gateway: GatewayProcess) -> None:
    """A place or a method that does not exist is answered as every other problem is."""
    assert gateway.get("/nowhere").problem == "not-found"
    wrong = gateway.get("/v1/events")

    assert (wrong.problem, wrong.headers["allow"]) == ("method-not-allowed", "POST")
    assert json.loads(gateway.post(event(), path="/v1/events/").body)["status"] == 404
