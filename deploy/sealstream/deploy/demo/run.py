"""The demonstration from its beginning to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from sealstream.deploy.demo.checking import is_only_at, proof_of, verify_whole_store
from sealstream.deploy.demo.display import Display, counts_in_words
from sealstream.deploy.demo.events import tenant_names
from sealstream.deploy.demo.home import DemoHome
from sealstream.deploy.demo.options import DemoOptions
from sealstream.deploy.demo.publishing import Publisher
from sealstream.deploy.demo.result import DemoResult, Tampering
from sealstream.deploy.demo.servers import DemoServers, demo_servers
from sealstream.deploy.demo.stages import Counts, LogWatch, StoreWatch, stored_kinds
from sealstream.deploy.demo.tampering import SWITCH, choose_victim, decode, forge, overwrite
from sealstream.deploy.environment import write_environment
from sealstream.deploy.interruption import Interruption
from sealstream.deploy.preparation import prepare
from sealstream.deploy.records import event_reader, record_in_words, record_to_dict
from sealstream.deploy.supervision import Workers
from sealstream.deploy.wording import verification_headline
from sealstream.schemas.errors import SealstreamError
from sealstream.sinks.verifier.audit import VerifyResult

_POLL_SECONDS: Final = 0.1
_STALL_SECONDS: Final = 90.0
_LOG_NAME: Final = "demo.log"
_CULPRIT: Final = "u-0000"


class DemoFailed(SealstreamError):
    """The pipeline did not do what it was to show."""


def run_demo(options: DemoOptions, display: Display, interruption: Interruption) -> DemoResult:
    """Run the demonstration, and leave nothing behind but what was asked to be kept.

    Arguments:
        options: What to do.
        display: Where to show it.
        interruption: Lets a signal end it at any moment.

    Raises:
        Interrupted: A signal came; everything has been ended.
        SealstreamError: Something did not work; everything has been ended, and the workers' logs are kept.
    """
    home = DemoHome(options.directory)
    keep_logs = False
    try:
        with _library_logs(home.logs), display:
            return _Demo(options, home.path, display, interruption).run()
    except SealstreamError as error:
        keep_logs = home.has_worker_logs()
        if keep_logs and not error.hint:
            error.hint = f"the workers' logs are kept in {home.logs}"
        raise
    finally:
        if not options.keep:
            home.remove(keep_logs=keep_logs)


@contextmanager
def _library_logs(directory: Path) -> Generator[None]:
    """Have what the Kafka client logs in this process written to a file: a retry at start is no news to a person."""
    directory.mkdir(mode=0o700, exist_ok=True)
    handler = logging.FileHandler(directory / _LOG_NAME, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


class _Demo:
    def __init__(self, options: DemoOptions, directory: Path, display: Display, interruption: Interruption) -> None:
        self._options = options
        self._directory = directory
        self._display = display
        self._interruption = interruption
        self._counts = Counts()
        self._timings: dict[str, float] = {}
        self._start = time.monotonic()
        self._publishing_at = self._start

    def run(self) -> DemoResult:
        options = self._options
        self._display.say(
            f"{options.events:,} events of {options.tenants:,} tenants go from an application to Kafka and PostgreSQL:"
            "\neach is chained to the one before it, stored, and all of it recomputed by a verifier.\n"
        )
        with ExitStack() as ends:
            try:
                servers, workers = self._bring_up(ends)
                self._flow(servers, workers)
                found = self._examine(servers)
            except BaseException:
                self._display.detail("ending what was started")
                # A step that a signal called off may fail before the signal's own exception comes: the signal counts.
                self._interruption.check()
                raise
            with self._step("ending", "Ending workers and servers", "Workers and servers have ended"):
                ends.close()
        return replace(found, timings=self._timings, seconds=time.monotonic() - self._start)

    def _bring_up(self, ends: ExitStack) -> tuple[DemoServers, Workers]:
        with self._step("servers", "Starting Kafka and PostgreSQL", "Kafka and PostgreSQL are up"):
            servers = ends.enter_context(
                demo_servers(
                    self._directory,
                    keep=self._options.keep,
                    interruption=self._interruption,
                    on_progress=self._display.detail,
                )
            )
        with self._step("preparation", "Creating topics, migrating the store", "Topics and store are ready"):
            prepare(servers.settings, self._interruption)
        workers = Workers(self._directory, servers.worker_environment)
        ends.callback(workers.stop)
        with self._step(
            "workers",
            "Starting processor, sink and verifier",
            "Processor, sink and verifier are started, each a process of its own",
        ):
            workers.start()
        return servers, workers

    def _flow(self, servers: DemoServers, workers: Workers) -> None:
        settings, counts, options = servers.settings, self._counts, self._options
        wanted = dict.fromkeys(("published", "chained", "stored"), options.records) | {"verified": options.events}
        title = f"Publishing {options.events:,} events of {options.tenants:,} tenants"
        self._publishing_at = time.monotonic()
        with (
            self._step("flow", title, "All are published, chained, stored and verified"),
            LogWatch(settings.connection(), settings.topics(), settings.partitions, counts) as log,
            StoreWatch(settings.database_url(), counts) as store,
            Publisher(settings, options, counts) as publisher,
        ):
            self._wait(wanted, workers, (publisher.check, workers.check, log.check, store.check))

    def _wait(self, wanted: dict[str, int], workers: Workers, checks: tuple[Callable[[], None], ...]) -> None:
        """Wait until every stage is where it should be.

        Raises:
            DemoFailed: Nothing moved for too long, or there is more than there should be.
        """
        moved_at, moved_to = time.monotonic(), -1
        while True:
            for check in checks:
                check()
            stages = self._counts.stages()
            self._display.detail("" if self._counts.chained.count else "the workers are starting")
            self._display.counts(self._counts, wanted)
            if any(stage.count > wanted[stage.name] for stage in stages):
                raise DemoFailed(f"there is more than was published: {counts_in_words(self._counts, wanted)}")
            if all(stage.count == wanted[stage.name] for stage in stages):
                return
            now, total = time.monotonic(), sum(stage.count for stage in stages)
            if total != moved_to:
                moved_at, moved_to = now, total
            elif now - moved_at > _STALL_SECONDS:
                states = "; ".join(f"{role}: {words}" for role, words in workers.readiness().items())
                raise DemoFailed(
                    f"nothing moved for {_STALL_SECONDS:.0f} s: {counts_in_words(self._counts, wanted)}. {states}"
                )
            self._interruption.pause(_POLL_SECONDS)

    def _examine(self, servers: DemoServers) -> DemoResult:
        """Tamper with the store, verify it, restore it, verify it again, and look at one event."""
        url = servers.settings.database_url()
        victim = choose_victim(url, tenant_names(self._options.tenants)[0])
        event = decode(victim.payload)
        self._display.say(
            "\nNow somebody with all rights on the database rewrites history: with the triggers switched off"
            f"\n({SWITCH.removeprefix('SET LOCAL ')}), in the stored event of tenant {victim.tenant}, seq {victim.seq},"
            f'\n"{event.action} by {event.actor.id}" becomes "{event.action} by {_CULPRIT}".\n'
        )
        overwrite(url, victim, forge(victim.payload, event, _CULPRIT))
        with self._step("verification", "Running sealstream verify", "sealstream verify on the edited store:"):
            found = self._verify(servers)
        detected = is_only_at(found, victim)
        self._show(found, good=detected)
        overwrite(url, victim, victim.payload)
        with self._step(
            "verification_again", "Running sealstream verify again", "sealstream verify once the true event is back:"
        ):
            again = self._verify(servers)
        self._show(again, good=again.is_valid)
        proof, reader = proof_of(servers.settings, victim), event_reader(servers.settings)
        if self._options.keep:
            write_environment(self._directory, servers.environment)
        return DemoResult(
            options=self._options,
            counts=self._counts,
            stored_kinds=stored_kinds(url),
            violations=self._counts.violations + again.violations_total,
            tampering=Tampering(
                tenant=victim.tenant,
                seq=victim.seq,
                before=event.actor.id,
                after=_CULPRIT,
                detected=detected,
                finding=verification_headline(found),
            ),
            publishing_at=self._publishing_at,
            timings=self._timings,
            seconds=0.0,
            record=record_to_dict(proof, reader),
            record_words=record_in_words(proof, reader),
            kept=self._directory if self._options.keep else None,
            embedded=servers.embedded,
        )

    def _verify(self, servers: DemoServers) -> VerifyResult:
        with self._interruption.allowed():
            return verify_whole_store(servers.settings, self._display.detail)

    def _show(self, result: VerifyResult, *, good: bool) -> None:
        reason = result.violations[0].message if result.violations else ""
        self._display.finding(verification_headline(result), reason, good=good)

    @contextmanager
    def _step(self, name: str, title: str, done: str) -> Generator[None]:
        self._interruption.check()
        start = time.monotonic()
        with self._display.step(title, done):
            yield
        self._timings[name] = time.monotonic() - start
