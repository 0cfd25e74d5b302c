"""Each benchmark, alive: tiny, on the shared servers, by its command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.chain import run
from bench.common import Options
from bench.contestants import find_java
from sealstream.deploy.cli import main
from support.providers import DATABASE_VARIABLE, KAFKA_VARIABLE

pytestmark = pytest.mark.slow

SPREAD = {"median", "least", "most", "runs"}


@pytest.fixture(autouse=True)
def servers(kafka_bootstrap: str, database_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let benchmarks run against the servers of the test run."""
    monkeypatch.setenv(KAFKA_VARIABLE, kafka_bootstrap)
    monkeypatch.setenv(DATABASE_VARIABLE, database_server)


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run a benchmark and return what it prints last."""
    assert main(["bench", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_peers_make_the_same_bytes_as_the_processor() -> None:
    """The bare loop and Kafka Streams make byte-identical records, duplicates included: they do the same work."""
    options = Options(events=2_000, tenants=20, runs=1, rate=None, without=frozenset({"faust_per_event"}))

    result = run(options, repeats_every=50)  # compares, and raises if they differ

    there = {"bare_loop", "kafka_streams"} if find_java() else {"bare_loop"}
    assert set(result.peers) == there
    assert there <= set(result.ratios)
    assert any("kafka_streams was left out" in note for note in result.notes) == ("kafka_streams" not in there)


def test_chain_measures_the_per_event_agent_and_latency(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has the processor's rate and latency, and its ratio to the ordinary Faust agent."""
    found = bench(
        capsys, "chain", "--events", "300", "--tenants", "5", "--runs", "1", "--rate", "100", "--seconds", "1",
        "--without", "kafka_streams", "--without", "bare_loop",
    )  # fmt: skip

    assert set(found["ours"]["events_per_second"]) == SPREAD
    assert found["ours"]["latency_milliseconds_p99"]["median"] > 0
    assert found["ratios"]["faust_per_event"] > 0
    assert found["machine"]["cores"] >= 1


def test_publish_measures_the_call_and_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has the audit log's rate, the time of one call, and the ratio to a bare producer."""
    found = bench(capsys, "publish", "--events", "500", "--tenants", "5", "--runs", "1")

    assert {"events_per_second", "call_microseconds_p50", "call_microseconds_p99"} <= set(found["ours"])
    assert set(found["peers"]) == {"with_spool", "bare_producer"}
    assert found["ratios"]["bare_producer"] > 0


def test_import_measures_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has how many rows a second come in, and what each takes, next to a bare copy of them."""
    found = bench(capsys, "import", "--events", "500", "--tenants", "5", "--runs", "1")

    assert {"rows_per_second", "cpu_microseconds_per_row"} <= set(found["ours"])
    assert set(found["peers"]) == {"bare_copy"}
    assert found["ratios"]["bare_copy_per_cpu_second"] > 0


def test_gateway_measures_requests(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has what a request costs and how long it takes, and the ratio to the web server alone."""
    found = bench(capsys, "gateway", "--events", "400", "--tenants", "3", "--runs", "1")

    assert {"requests_per_cpu_second", "half_load_milliseconds_p99"} <= set(found["ours"])
    assert found["ours"]["batch_events_per_cpu_second"]["median"] > 0
    assert found["ratios"]["bare_server_per_cpu_second"] > 0


def test_end_to_end_holds_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has the rate that was published, each stage's lag, and the cores that each process took."""
    found = bench(capsys, "end-to-end", "--rate", "300", "--seconds", "3", "--warmup-seconds", "1", "--tenants", "5")

    assert found["ours"]["events_per_second"]["median"] > 0
    assert {"processor_lag_seconds_max", "sink_lag_seconds_max", "verifier_lag_seconds_max"} <= set(found["ours"])
    assert {"processor_cores", "sink_cores", "verifier_cores", "publisher_cores"} <= set(found["ours"])
    assert found["ours"]["sink_cpu_microseconds_per_event"]["median"] > 0


def test_asgi_measures_the_middleware(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has what a server with the middleware serves in a second of CPU time, and its ratio to a plain one."""
    found = bench(capsys, "asgi", "--events", "400", "--runs", "1")

    assert {"requests_per_cpu_second", "requests_per_second", "cpu_microseconds"} == set(found["ours"])
    assert set(found["peers"]) == {"plain", "plain_again", "logging"}
    assert found["ratios"]["plain"] > 0


def test_verify_measures_publishing_and_checking(capsys: pytest.CaptureFixture[str]) -> None:
    """The verifier's feed is what the bare loop copies, and both of its rates are in the result."""
    found = bench(capsys, "verify", "--events", "500", "--tenants", "5", "--runs", "1")

    assert set(found["ours"]["entries_per_second"]) == SPREAD
    assert found["ours"]["checked_entries_per_cpu_second"]["median"] > 0
    assert set(found["ratios"]) == {"bare_loop", "bare_loop_per_cpu_second"}


def test_verify_store_measures_a_core(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has what one core verifies a second, next to a loop that only hashes, and what the command does."""
    found = bench(capsys, "verify-store", "--events", "500", "--tenants", "5", "--runs", "1")

    assert set(found["ours"]["entries_per_cpu_second"]) == SPREAD
    assert found["ours"]["command_entries_per_second"]["median"] > 0
    assert set(found["ratios"]) == {"bare_loop_per_cpu_second"}


def test_proof_measures_single_proofs_and_bundles(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has what a proof takes beside a look-up, how large it is at most, and what bundles take."""
    found = bench(capsys, "proof", "--events", "500", "--tenants", "50", "--runs", "1")

    assert set(found["ours"]["milliseconds_p99"]) == set(found["ours"]["warm_milliseconds_p99"]) == SPREAD
    assert 500 < found["ours"]["proof_bytes_most"]["median"] < 10_000
    assert found["ours"]["checked_entries_per_cpu_second"]["median"] > 0
    assert set(found["ratios"]) == {"look_up_milliseconds_p50", "look_up_milliseconds_p99"}


def test_checkpoint_measures_a_round_by_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has what a round of all chains takes, and each of its steps, by the clock and of the processor."""
    found = bench(capsys, "checkpoint", "--events", "100", "--tenants", "50", "--runs", "2")["ours"]

    steps = ("read_back", "heads", "files", "sign", "publish_chains", "publish_topic")
    measured = {name.removesuffix("_cpu_seconds") for name in found if name.endswith("_cpu_seconds")}
    assert measured == {*steps, "erase_beside"}
    for number in range(2):
        of_steps = sum(found[f"{step}_seconds"]["runs"][number] for step in steps)
        assert of_steps == pytest.approx(found["seconds"]["runs"][number], rel=0.01)


def test_memory_measures_what_is_held_and_the_restore(capsys: pytest.CaptureFixture[str]) -> None:
    """The result has what a worker held while it chained, and how long its successor took to restore all of it."""
    found = bench(capsys, "memory", "--tenants", "300", "--events", "300")

    assert found["ours"]["chaining_peak_megabytes"]["median"] > found["ours"]["started_megabytes"]["median"] / 2
    assert found["ours"]["restore_seconds"]["median"] > 0
    assert found["ours"]["restored_and_chaining_peak_megabytes"]["median"] > 0
