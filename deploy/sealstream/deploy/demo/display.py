"""What a person sees of the demonstration while it runs: a live display at a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sealstream.deploy.cli.output import printable
from sealstream.deploy.demo.stages import Counts

_WHAT: Final = {
    "published": "application → audit.events",
    "chained": "processor → audit.chained",
    "stored": "sink → PostgreSQL",
    "verified": "verifier → audit.verified",
}
_REFRESH_SECONDS: Final = 0.125
_PLAIN_SECONDS: Final = 2.0
_PLAIN_WIDTH: Final = 120
_BAR_WIDTH: Final = 24
_INDENT: Final = (0, 0, 0, 4)


class Display(ABC):
    """What the demonstration tells a person.

    Arguments:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del kind, error, traceback

    def say(self, text: str = "") -> None:
        """Print lines that stay."""
        self._print(Text(printable(text)), soft_wrap=True)

    def finding(self, *lines: str, good: bool) -> None:
        """Print what was found, below the step that found it.

        Arguments:
            lines: The finding, and more of it.
            good: Whether that is what had to be found.
        """
        first, *more = (printable(line) for line in lines if line)
        self._print(Padding(Text(first, style="bold" if good else "bold red"), _INDENT, expand=False))
        for line in more:
            self._print(Padding(Text(line), _INDENT, expand=False))

    @contextmanager
    def step(self, title: str, done: str) -> Generator[None]:
        """Show that something is being done, and, if it comes to its end, that it was done and how long it took.

        Arguments:
            title: What is being done: "Starting Kafka and PostgreSQL".
            done: The same when it is done: "Kafka and PostgreSQL are up".
        """
        start = time.monotonic()
        self._begin(title)
        yield
        self._end(done, time.monotonic() - start)

    def _print(self, line: RenderableType, *, soft_wrap: bool = False) -> None:
        """Print what stays."""
        self.console.print(line, highlight=False, soft_wrap=soft_wrap)

    @abstractmethod
    def detail(self, text: str) -> None:
        """Show in a few words how the present step is going; from any thread."""

    @abstractmethod
    def counts(self, counts: Counts, wanted: dict[str, int]) -> None:
        """Show how far each stage is.

        Arguments:
            counts: What was counted so far.
            wanted: Where each stage ends, by its name.
        """

    @abstractmethod
    def _begin(self, title: str) -> None: ...

    @abstractmethod
    def _end(self, done: str, seconds: float) -> None: ...


class LiveDisplay(Display):
    """For a terminal: finished steps stay, the present one moves below them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._title = ""
        self._detail = ""
        self._table: RenderableType | None = None
        self._spinner = Spinner("dots", style="cyan")
        # rich counts the lines that it has drawn, and loses count when two threads draw at once: here only one may.
        self._live = Live(get_renderable=self._draw, console=console, transient=True, auto_refresh=False)
        self._drawing = threading.RLock()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="display", daemon=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del kind, error, traceback
        self._ended.set()
        self._ticker.join()
        self._title = ""
        self._live.stop()

    def detail(self, text: str) -> None:
        """Show it behind the present step."""
        self._detail = printable(text, keep_newlines=False)

    def counts(self, counts: Counts, wanted: dict[str, int]) -> None:
        """Show a bar for each stage, below the present step."""
        table = Table.grid(padding=(0, 2))
        for column in range(5):
            table.add_column(justify="right" if column in (2, 3) else "left", no_wrap=True)
        for stage in counts.stages():
            rate = stage.rate if stage.count >= wanted[stage.name] else stage.rate_now
            table.add_row(
                Text(stage.name, style="bold"),
                ProgressBar(total=wanted[stage.name], completed=stage.count, width=_BAR_WIDTH),
                f"{stage.count:,}",
                f"{rate:,.0f}/s" if rate else "",
                Text(_WHAT[stage.name], style="dim"),
            )
        self._table = Padding(table, (1, 0, 0, 4))

    def _begin(self, title: str) -> None:
        self._title, self._detail, self._table = title, "", None

    def _end(self, done: str, seconds: float) -> None:
        self._title, self._table = "", None
        self._print(Text.assemble((" ✔ ", "green"), done, (f"  {seconds:.1f} s", "dim")))

    def _print(self, line: RenderableType, *, soft_wrap: bool = False) -> None:
        with self._drawing:
            super()._print(line, soft_wrap=soft_wrap)
            self._live.refresh()

    def _tick(self) -> None:
        """Draw again and again: the spinner turns, and the counts move."""
        while not self._ended.wait(_REFRESH_SECONDS):
            with self._drawing:
                self._live.refresh()

    def _draw(self) -> RenderableType:
        if not self._title:
            return Text()
        text = Text.assemble(self._title, (f"  {self._detail}" if self._detail else "", "dim"))
        text.no_wrap, text.overflow = True, "ellipsis"
        self._spinner.update(text=text)
        line = Padding(self._spinner, (0, 0, 0, 1))
        return Group(line, self._table) if self._table is not None else line


class PlainDisplay(Display):
    """For logs and pipes: a line when something has happened, and every two seconds while the stages move."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last_counts_at = self._last_detail_at = float("-inf")
        self._last_detail = ""

    def detail(self, text: str) -> None:
        """Print it, unless another one was printed just now."""
        now = time.monotonic()
        if text and text != self._last_detail and now - self._last_detail_at >= _PLAIN_SECONDS:
            self._last_detail, self._last_detail_at = text, now
            self._line(text)

    def counts(self, counts: Counts, wanted: dict[str, int]) -> None:
        """Print one line with all stages, now and then."""
        now = time.monotonic()
        if now - self._last_counts_at < _PLAIN_SECONDS:
            return
        self._last_counts_at = now
        self._line(counts_in_words(counts, wanted))

    def _begin(self, title: str) -> None:
        self._last_counts_at = self._last_detail_at = time.monotonic()
        self._line(f"{title} ...")

    def _end(self, done: str, seconds: float) -> None:
        self._line(f"{done} ({seconds:.1f} s)")

    def _line(self, text: str) -> None:
        seconds = time.monotonic() - self._start
        self._print(Text(f"[{seconds:6.1f} s] {printable(text)}"), soft_wrap=True)


def make_console(*, stderr: bool) -> Console:
    """Return a console for the demonstration: as wide as the terminal, or wide enough for its lines elsewhere."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_PLAIN_WIDTH)


def make_display(console: Console) -> Display:
    """Return the display that fits where the console writes to."""
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)


def counts_in_words(counts: Counts, wanted: dict[str, int]) -> str:
    """Return how far each stage is, in one line."""
    return ", ".join(f"{stage.name} {stage.count:,} of {wanted[stage.name]:,}" for stage in counts.stages())


def summary_table(counts: Counts, start: float) -> Table:
    """Return the table at the end: what each stage handled, when it was done, and how fast it was.

    Arguments:
        counts: What was counted.
        start: When publishing began, on the clock of ``time.monotonic``.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2))
    table.add_column("stage")
    for heading in ("records", "done after", "rate"):
        table.add_column(heading, justify="right")
    table.add_column("from → to")
    for stage in counts.stages():
        done = f"{stage.last_at - start:.1f} s" if stage.last_at is not None else ""
        rate = f"{stage.rate:,.0f}/s" if stage.rate is not None else "-"
        table.add_row(stage.name, f"{stage.count:,}", done, rate, _WHAT[stage.name])
    return table
