"""``sealstream bench``: benchmarks of a source checkout, each against peers in the same run."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from sealstream.deploy.cli.output import JsonOption, print_items, print_json, print_line, print_table
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

_PANEL = "Look and check"
_TESTS: Final = Path(__file__).resolve().parents[4] / "tests"
_WHOLE_FROM: Final = 1_000
_group = typer.Typer(
    help="Measure, against peers in the same run. Needs a source checkout. Other load makes every figure worse.",
    no_args_is_help=True,
)

_Events: TypeAlias = Annotated[
    int | None,
    typer.Option(min=100, max=100_000_000, metavar="N", help="Events of one run.", show_default="the benchmark's own"),
]
_Tenants: TypeAlias = Annotated[int, typer.Option(min=1, max=10_000_000, metavar="N", help="Tenants.")]
_Partitions: TypeAlias = Annotated[int, typer.Option(min=1, max=1_000, metavar="N", help="Partitions.")]
_Runs: TypeAlias = Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How often; the median counts.")]
_Warmup: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Events of a run before those that count.", show_default="half of them"),
]
_Without: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="PEER", help="Leave a peer out; may be given more than once.")
]
_Rate: TypeAlias = Annotated[
    float | None,
    typer.Option(min=1, metavar="R", help="Events a second to offer.", show_default="searches the highest"),
]
_Seconds: TypeAlias = Annotated[float, typer.Option(min=1, max=86_400, metavar="S", help="How long to hold a rate.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="bench", rich_help_panel=_PANEL)


@_group.command()
def chain(
    *,
    events: _Events = None,
    tenants: _Tenants = 100,
    partitions: _Partitions = 4,
    runs: _Runs = 3,
    warmup: _Warmup = None,
    without: _Without = None,
    rate: Annotated[
        float, typer.Option(min=0, metavar="R", help="Events a second at which latency is taken; 0 leaves it out.")
    ] = 1_000,
    seconds: _Seconds = 20,
    as_json: JsonOption = False,
) -> None:
    """The processor against a bare loop, Kafka Streams with exactly-once, and a per-event Faust agent.

    All of them read the same topic and make the same entries. Peers: kafka_streams, bare_loop, faust_per_event.
    """
    _run(
        "chain",
        as_json=as_json,
        events=events,
        tenants=tenants,
        partitions=partitions,
        runs=runs,
        warmup=warmup,
        without=frozenset(without or ()),
        rate=rate,
        seconds=seconds,
    )


@_group.command()
def sink(
    *,
    events: _Events = None,
    tenants: _Tenants = 100,
    partitions: _Partitions = 4,
    runs: _Runs = 3,
    warmup: _Warmup = None,
    without: _Without = None,
    as_json: JsonOption = False,
) -> None:
    """The sink against a raw binary COPY of equal bytes into a table without an index."""
    _run(
        "sink",
        as_json=as_json,
        events=events,
        tenants=tenants,
        partitions=partitions,
        runs=runs,
        warmup=warmup,
        without=frozenset(without or ()),
    )


@_group.command()
def verify(
    *,
    events: _Events = None,
    tenants: _Tenants = 100,
    partitions: _Partitions = 4,
    runs: _Runs = 3,
    warmup: _Warmup = None,
    as_json: JsonOption = False,
) -> None:
    """The verifier, publishing audit.verified and checking only."""
    _run(
        "verify",
        as_json=as_json,
        events=events,
        tenants=tenants,
        partitions=partitions,
        runs=runs,
        warmup=warmup,
    )


@_group.command("verify-store")
def verify_store(
    *,
    events: _Events = None,
    tenants: _Tenants = 100,
    partitions: _Partitions = 4,
    runs: _Runs = 3,
    as_json: JsonOption = False,
) -> None:
    """The whole store verified, against a bare loop that fetches and hashes the same bytes."""
    _run("verify_store", as_json=as_json, events=events, tenants=tenants, partitions=partitions, runs=runs)


@_group.command()
def proof(
    *,
    events: _Events = None,
    tenants: Annotated[
        int, typer.Option(min=1, max=1_000_000, metavar="N", help="Other chains in the tenant map.")
    ] = 10_000,
    runs: _Runs = 3,
    as_json: JsonOption = False,
) -> None:
    """Proof files out of one tenant's large chain, against fetching the same records; bundles of it."""
    _run("proof", as_json=as_json, events=events, tenants=tenants, partitions=4, runs=runs)


@_group.command()
def checkpoint(
    *,
    events: _Events = None,
    tenants: Annotated[
        int, typer.Option(min=1, max=1_000_000, metavar="N", help="Chains, all of which change in each round.")
    ] = 10_000,
    runs: _Runs = 3,
    as_json: JsonOption = False,
) -> None:
    """A round of the notary in which every chain has changed, by its steps: from the store to signed and public."""
    _run("checkpoint", as_json=as_json, events=events, tenants=tenants, partitions=4, runs=runs)


@_group.command()
def publish(
    *,
    events: _Events = None,
    tenants: _Tenants = 100,
    partitions: _Partitions = 4,
    runs: _Runs = 3,
    warmup: _Warmup = None,
    as_json: JsonOption = False,
) -> None:
    """An application's audit log, without and with a spool, against a bare producer of the same bytes."""
    _run(
        "publish",
        as_json=as_json,
        events=events,
        tenants=tenants,
        partitions=partitions,
        runs=runs,
        warmup=warmup,
    )


@_group.command()
def asgi(
    *,
    events: Annotated[
        int | None,
        typer.Option(min=100, max=10_000_000, metavar="N", help="Requests of one run.", show_default="30000"),
    ] = None,
    runs: _Runs = 5,
    as_json: JsonOption = False,
) -> None:
    """A web application with the audit middleware against the same one without it."""
    _run("asgi", as_json=as_json, events=events, partitions=4, runs=runs)


@_group.command("import")
def import_rows(
    *,
    events: _Events = None,
    tenants: _Tenants = 100,
    partitions: _Partitions = 4,
    runs: _Runs = 3,
    as_json: JsonOption = False,
) -> None:
    """An older trail out of PostgreSQL into Kafka, by the command, against a bare copy of the same rows."""
    _run("importing", as_json=as_json, events=events, tenants=tenants, partitions=partitions, runs=runs)


@_group.command()
def gateway(
    *,
    events: _Events = None,
    tenants: _Tenants = 10,
    partitions: _Partitions = 4,
    runs: _Runs = 3,
    warmup: _Warmup = None,
    as_json: JsonOption = False,
) -> None:
    """The gateway, by requests of one event, against its web server alone."""
    _run(
        "gateway",
        as_json=as_json,
        events=events,
        tenants=tenants,
        partitions=partitions,
        runs=runs,
        warmup=warmup,
    )


@_group.command("end-to-end")
def end_to_end(
    *,
    tenants: _Tenants = 100,
    partitions: _Partitions = 4,
    rate: _Rate = None,
    seconds: _Seconds = 60,
    warmup_seconds: Annotated[
        float, typer.Option(min=0, max=3_600, metavar="S", help="How long at most to wait until Kafka is warm.")
    ] = 180,
    as_json: JsonOption = False,
) -> None:
    """Everything at once, servers included, on this machine: the rate that is held with flat lag."""
    _run(
        "end_to_end",
        as_json=as_json,
        events=None,
        tenants=tenants,
        partitions=partitions,
        runs=1,
        rate=rate,
        seconds=seconds,
        warmup_seconds=warmup_seconds,
    )


@_group.command()
def memory(
    *,
    events: _Events = None,
    tenants: Annotated[int, typer.Option(min=1, max=10_000_000, metavar="N", help="Tenants.")] = 1_000_000,
    partitions: _Partitions = 4,
    as_json: JsonOption = False,
) -> None:
    """What a processor holds for many tenants, and how long it restores them."""
    _run("memory", as_json=as_json, events=events, tenants=tenants, partitions=partitions, runs=1)


def _run(name: str, *, as_json: bool, events: int | None, **options: object) -> None:
    """Run a benchmark and print what it found."""
    common, benchmark = _load("common"), _load(name)
    from sealstream.deploy.interruption import Interruption

    # Everything that a benchmark starts is a context that ends it, whatever ends the benchmark.
    with Interruption() as interruption, interruption.allowed(), _progress() as report:
        result = benchmark.run(
            common.Options(events=events or benchmark.EVENTS, json=as_json, progress=report, **options)
        )
    found: dict[str, Any] = result.to_json()
    if as_json:
        print_json(found)
    else:
        _print(found)


def _load(name: str) -> ModuleType:
    """Import a module of the benchmarks, which are no part of the installed package.

    Raises:
        ConfigError: This is no source checkout, or not one with this benchmark.
    """
    if not (_TESTS / "bench" / f"{name}.py").is_file():
        raise ConfigError(
            f"the benchmark {name} is not here: benchmarks are no part of the installed package",
            hint="run `uv run sealstream bench` in a checkout of the source",
        )
    if str(_TESTS) not in sys.path:
        sys.path.insert(0, str(_TESTS))
    return importlib.import_module(f"bench.{name}")


@contextmanager
def _progress() -> Generator[Callable[[str], None]]:
    """Give what shows, at a terminal, what a benchmark is at."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def _print(found: dict[str, Any]) -> None:
    """Print a result for a person."""
    contestants: dict[str, dict[str, Any]] = {"ours": found["ours"]} | found["peers"]
    names = list(dict.fromkeys(name for measured in contestants.values() for name in measured))
    rows = [(name, *(_figure_in_words(measured.get(name)) for measured in contestants.values())) for name in names]
    print_table(("measured", *contestants), rows)
    if found["ratios"]:
        print_table(("ours to", "ratio"), [(name, f"{ratio:.2f}") for name, ratio in found["ratios"].items()])
    machine = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    print_line(f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']:.0f} GiB; {versions}")
    print_line(f"load average before: {' '.join(str(load) for load in machine['load_average'])}")
    print_items(found["notes"])


def _figure_in_words(figure: dict[str, Any] | None) -> str:
    """Return a figure with its spread, if it has one."""
    if figure is None:
        return ""
    median, least, most = (_number_in_words(figure[key]) for key in ("median", "least", "most"))
    return median if least == most else f"{median} ({least} to {most})"


def _number_in_words(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= _WHOLE_FROM else f"{number:.3g}"
