"""``sealstream bench gateway``: what a request to publish one event costs, and how long it takes.

The gateway and the load are processes of their own. First requests come as fast as they are answered, over 64
connections; then at half that rate, evenly, and the time of each is taken from the moment at which it was to be sent.
The peer is the same web server with an application that reads the body and answers the same number of bytes, and does
nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import psutil

from bench.common import Machine, Options, Result, collect
from bench.contest import Contest, Launch, process
from bench.request_load import Load, Sent
from bench.servers import serve
from bench.usage import cpu_seconds
from sealstream.kafka.topics import TopicNames
from sealstream.producers.gateway.api_keys import ApiKeys, new_key
from sealstream.producers.gateway.key_file import edit_keys
from sealstream.schemas.entry import Genesis
from support.workers import wait_for

EVENTS: Final = 30_000
CONNECTIONS: Final = 64
_BATCH_EVENTS: Final = 100
_HALF_LOAD: Final = 0.5
_START_SECONDS: Final = 90.0
_LOAD_SECONDS: Final = 900.0
_MICROSECONDS: Final = 1e6
_TICK_SECONDS: Final = 0.01
_LINE_EVENT: Final = "gateway listening"


def body_of(run: str) -> str:
    """Return the JSON of an event with a place for its number; about 300 bytes as a record's value."""
    event: dict[str, Any] = {
        "id": f"{run}-%d",
        "occurred_at": "2026-01-31T12:00:00.123Z",
        "actor": {"type": "user", "id": "u-997", "name": "Ada Byron"},
        "action": "document.updated",
        "targets": [{"type": "document", "id": "d-%d", "name": "Quarterly report"}],
        "context": {"ip": "192.0.2.17", "user_agent": "acme-cli/3.2.1", "session": "s-1b2c3d4e5f"},
        "metadata": {"field": "title", "note": "changed after review"},
    }
    return json.dumps(event, separators=(",", ":"))


def run(options: Options) -> Result:
    """Run the benchmark."""
    machine = Machine.describe()
    name = f"bench-{secrets.token_hex(4)}"
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare_server": []}
    with serve() as servers, tempfile.TemporaryDirectory() as directory:
        contest = Contest(servers, name, progress=options.progress)
        try:
            genesis = Genesis(instance=f"bench.example/{name}", partitions=options.partitions)
            contest.create_source(TopicNames(prefix=f"{name}.").events, genesis)
            tokens = _keys(Path(directory), options.tenants)
            for number in range(options.runs):
                options.progress(f"run {number + 1} of {options.runs}")
                with _serving(_gateway(servers.kafka, name, Path(directory)), Path(directory)) as (port, pid):
                    measured = _measure(port, pid, tokens, options)
                    runs["ours"].append(measured | _measure_batches(port, pid, tokens, options))
                with _serving(_bare(), Path(directory)) as (port, pid):
                    runs["bare_server"].append(_measure(port, pid, tokens, options))
        finally:
            contest.delete_all()
    ours, bare = collect(runs["ours"]), collect(runs["bare_server"])
    return Result(
        name="gateway",
        options=options,
        ours=ours,
        peers={"bare_server": bare},
        ratios={"bare_server_per_cpu_second": ours["requests_per_cpu_second"].over(bare["requests_per_cpu_second"])},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=(
            "CPU time is that of the gateway's whole process, librdkafka's threads included",
            "the load is a process of its own, on the same machine, and so is Kafka",
            "half load is half the rate of requests_per_second",
        ),
    )


def _measure(port: int, pid: int, tokens: list[str], options: Options) -> dict[str, float]:
    served = psutil.Process(pid)
    first = min(options.warmup_events, options.events - 1)
    if first:
        _send(port, tokens, requests=first)
    count = options.events - first
    begin = cpu_seconds(served)
    flat_out = _send(port, tokens, requests=count)
    cpu = _taken(served, begin)
    half = _send(
        port, tokens, requests=max(count // 2, 1), per_second=flat_out.requests / flat_out.seconds * _HALF_LOAD
    )
    return {
        "requests_per_second": flat_out.requests / flat_out.seconds,
        "requests_per_cpu_second": count / cpu,
        "cpu_microseconds_per_request": cpu / count * _MICROSECONDS,
        "half_load_requests_per_second": half.requests / half.seconds,
        "half_load_milliseconds_p50": half.p50_milliseconds,
        "half_load_milliseconds_p99": half.p99_milliseconds,
    }


def _measure_batches(port: int, pid: int, tokens: list[str], options: Options) -> dict[str, float]:
    served, requests = psutil.Process(pid), max(options.events // _BATCH_EVENTS, 1)
    begin = cpu_seconds(served)
    _send(port, tokens, requests=requests, batch=_BATCH_EVENTS)
    return {"batch_events_per_cpu_second": requests * _BATCH_EVENTS / _taken(served, begin)}


def _taken(served: psutil.Process, begin: float) -> float:
    """Return the CPU time since then; at least a tick of the system's clock, so that a tiny run divides by no zero."""
    return max(cpu_seconds(served) - begin, _TICK_SECONDS)


def _send(port: int, tokens: list[str], *, requests: int, per_second: float = 0.0, batch: int = 0) -> Sent:
    """Send a load from a process of its own."""
    one = body_of(secrets.token_hex(4))
    body = f"[{','.join(one.replace('%d', f'%d-{number}') for number in range(batch))}]" if batch else one
    load = Load(port, tuple(tokens), body, CONNECTIONS, requests, per_second)
    command = [sys.executable, "-m", "bench.request_load", json.dumps(asdict(load))]
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, timeout=_LOAD_SECONDS, check=True)
    sent = Sent(**json.loads(done.stdout))
    assert sent.failures == 0, f"{sent.failures} of {requests} requests were not accepted"
    return sent


def _keys(directory: Path, tenants: int) -> list[str]:
    made = [new_key(name="bench", tenant=f"tenant-{number:06d}", events_per_second=1e6) for number in range(tenants)]
    edit_keys(directory / "keys.json", lambda _: ApiKeys(key for key, _ in made))
    return [token for _key, token in made]


def _gateway(kafka: str, name: str, directory: Path) -> Launch:
    environment = {
        "SEALSTREAM_KAFKA": kafka,
        "SEALSTREAM_INSTANCE": f"bench.example/{name}",
        "SEALSTREAM_TOPIC_PREFIX": f"{name}.",
        "SEALSTREAM_GATEWAY_KEYS": str(directory / "keys.json"),
        "SEALSTREAM_GATEWAY_SECRET": secrets.token_hex(32),
        "SEALSTREAM_GATEWAY_BURST_EVENTS": "1000000",
        "SEALSTREAM_LOG_FORMAT": "json",
    }
    return Launch([sys.executable, "-m", "sealstream.deploy", "gateway"], group="", environment=environment)


def _bare() -> Launch:
    return Launch([sys.executable, "-m", "bench.bare_server"], group="")


@contextmanager
def _serving(launch: Launch, directory: Path) -> Generator[tuple[int, int]]:
    """Run a server, and return the port that it logs, and its process."""
    log = directory / f"{secrets.token_hex(4)}.log"
    with process(launch, log) as started:

        def ports() -> list[int]:
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
            return [line["port"] for line in lines if line["event"] == _LINE_EVENT]

        def has_begun() -> bool:
            assert started.poll() is None, log.read_text()
            return bool(ports())

        wait_for(has_begun, timeout_seconds=_START_SECONDS, what="the server")
        yield ports()[0], started.pid
