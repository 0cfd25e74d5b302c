"""``sealstream bench chain``: the processor against its peers, all over the same source and to the same bytes.

One contestant at a time reads the whole source. Its rate is taken over the second half, from the broker's append times
of what a reader of committed records sees, and its CPU time over that same stretch. Then what it made is read, and
compared byte by byte with what the others made.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.common import Figure, Machine, Options, Result, collect
from bench.contest import Contest, Entrant, Score, Source
from bench.contestants import bare_loop, faust_per_event, find_java, kafka_streams, ours
from bench.latency import measure_latency
from bench.output import Output
from bench.servers import serve
from bench.source import publish_events
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import ConfigError

EVENTS: Final = 2_000_000
FAUST_EVENTS: Final = 30_000
_FAUST: Final = "faust_per_event"
PEERS: Final = ("bare_loop", "kafka_streams", _FAUST)
_RATE: Final = "events_per_second"
_CPU_RATE: Final = "events_per_cpu_second"


class OutputDiffers(AssertionError):
    """Two contestants that were given the same made different bytes: one of them does other work."""


def run(options: Options, *, repeats_every: int = 0) -> Result:
    """Run the benchmark.

    Arguments:
        options: What to measure.
        repeats_every: After each so many events, one is published once more; 0 for never.

    Raises:
        ConfigError: A peer that is to be left out does not exist.
        OutputDiffers: A peer's output is not byte-identical to ours.
    """
    unknown = options.without - set(PEERS)
    if unknown:
        raise ConfigError(f"there is no peer {min(unknown)}", hint=f"the peers are {', '.join(PEERS)}")
    machine = Machine.describe()
    with serve() as servers, tempfile.TemporaryDirectory(prefix="sealstream-bench-") as directory:
        name = f"bench-{secrets.token_hex(4)}"
        contest = Contest(servers, name, progress=options.progress, directory=Path(directory))
        round_ = _Round(contest, options, name, Path(directory), repeats_every)
        try:
            round_.publish(servers.kafka)
            for number in range(options.runs):
                round_.run(number)
            latency = measure_latency(servers.kafka, options, Path(directory)) if options.rate else {}
        finally:
            contest.delete_all()
        versions = dict(machine.versions) | servers.versions | round_.versions
    measured = {entrant: collect([score.measured for score in scores]) for entrant, scores in round_.scores.items()}
    mine = measured.pop("ours")
    ratios = {peer: mine[_RATE].over(figures[_RATE]) for peer, figures in measured.items()}
    ratios |= {f"{peer}_per_cpu_second": mine[_CPU_RATE].over(figures[_CPU_RATE]) for peer, figures in measured.items()}
    return Result(
        name="chain",
        options=options,
        ours=mine | {figure: Figure.of([value]) for figure, value in latency.items()},
        peers=measured,
        ratios=ratios,
        machine=replace(machine, versions=versions),
        notes=tuple(round_.notes),
    )


def compare(outputs: Mapping[str, Output]) -> None:
    """Compare what contestants made of one source with ours.

    Raises:
        OutputDiffers: A peer's output is not byte-identical to ours.
    """
    for peer, output in outputs.items():
        if output.digests != outputs["ours"].digests:
            raise OutputDiffers(f"{peer} did not make the same keys, values and entries as ours")


class _Round:
    """The contestants, their sources, and their scores so far."""

    def __init__(self, contest: Contest, options: Options, name: str, directory: Path, repeats_every: int) -> None:
        self._contest = contest
        self._options = options
        self._name = name
        self._directory = directory
        self._repeats_every = repeats_every
        self._sources: dict[str, Source] = {}
        self.scores: dict[str, list[Score]] = {}
        self.notes: list[str] = []
        self.versions: dict[str, str] = {}

    def publish(self, bootstrap: str) -> None:
        """Publish the source for all, and the small one for the peer that takes a second for what others do in ten."""
        options, names = self._options, self._contest.names
        wanted = {names.events: options.events}
        if _FAUST not in options.without:
            wanted[f"{self._name}.{_FAUST}.events"] = min(options.events, FAUST_EVENTS)
        for topic, events in wanted.items():
            topic_id = self._contest.create_source(topic, self._genesis(0))
            counts = publish_events(
                bootstrap,
                topic,
                last=events,
                tenants=options.tenants,
                partitions=options.partitions,
                repeats_every=self._repeats_every,
                # Faust's Kafka client has no LZ4 unless a package more is installed.
                compression="lz4" if topic == names.events else "none",
                progress=options.progress,
            )
            self._sources[topic] = Source(topic, topic_id, tuple(counts))

    def run(self, number: int) -> None:
        """Run every contestant once; who begins changes from run to run."""
        genesis = self._genesis(number)
        entrants = self._entrants(genesis)
        turned = entrants[number % len(entrants) :] + entrants[: number % len(entrants)]
        for entrant in turned:
            self._options.progress(f"run {number + 1} of {self._options.runs}: {entrant.name}")
            small = entrant.name == _FAUST
            source = self._sources[f"{self._name}.{_FAUST}.events" if small else self._contest.names.events]
            warmup = sum(source.counts) // 2 if small else self._options.warmup_events
            score = self._contest.run(entrant, source, genesis, warmup_events=warmup)
            self.scores.setdefault(entrant.name, []).append(score)
        compare({entrant.name: self.scores[entrant.name][-1].output for entrant in entrants if entrant.name != _FAUST})

    def _entrants(self, genesis: Genesis) -> list[Entrant]:
        entrants = [ours(self._contest.names, genesis, {})]
        makers: dict[str, Callable[[], Entrant | None]] = {
            "bare_loop": bare_loop,
            "kafka_streams": self._kafka_streams,
            _FAUST: faust_per_event,
        }
        for name, make in makers.items():
            if name in self._options.without:
                self._note(f"{name} was left out, as asked")
            elif (entrant := make()) is not None:
                entrants.append(entrant)
        return entrants

    def _kafka_streams(self) -> Entrant | None:
        java = find_java()
        if java is None:
            self._note("kafka_streams was left out: there is no JDK of version 17 or later")
            return None
        self.versions["java"] = java.version
        return kafka_streams(java, self._directory / "streams", self._options.progress, {})

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _genesis(self, number: int) -> Genesis:
        return Genesis(instance=f"bench.example/{self._name}-{number}", partitions=self._options.partitions)
