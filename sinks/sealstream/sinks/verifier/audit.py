"""``sealstream verify``: the whole store, one tenant of it, or a range, recomputed from the bytes that it holds.

By itself that reaches the level ``chain``: that every entry and payload is the one that the chain commits to, and that
nothing is missing inside. Held against what was published it reaches the level of the checkpoint. What even a clean
result cannot exclude is said in words with every result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sealstream.schemas.errors import ConfigError, SealstreamError, StoreError
from sealstream.schemas.tenant_name import is_chain
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.against import PublishedCheck
from sealstream.sinks.verifier.audit_state import AuditState
from sealstream.sinks.verifier.crew import Crew
from sealstream.sinks.verifier.ledger import Findings, Ledger
from sealstream.sinks.verifier.levels import Level, not_excluded
from sealstream.sinks.verifier.pieces import PIECE_ENTRIES, SEQ_MAX, Part, plan
from sealstream.sinks.verifier.published import Against, Published
from sealstream.sinks.verifier.stored_chain import End
from sealstream.sinks.verifier.stored_rows import StoreReader, open_store

PROGRESS_SECONDS: Final = 0.2
SAVE_SECONDS: Final = 5.0
STATEMENT_SECONDS: Final = 60.0

CLEAN: Final = 0
VIOLATED: Final = 1
NOT_CHECKED: Final = 2


Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class VerifyResult:
    """What a verification came to.

    Arguments:
        level: How much was checked.
        chains: Number of chains that were checked.
        entries: Number of entries that were checked now.
        violations: The first violations that were found.
        violations_total: Number of violations that were found.
        checked_through: The last seq of each chain up to which all that was checked holds, now or in earlier runs; at
            levels above ``chain``, as far as the checkpoint covers it.
        growth: Number of entries that stand behind what was published, and are checked at the level ``chain`` only.
        as_of: When the checkpoint was there that the level comes from; at the level ``chain``, and where nobody says
            when, the moment of the store that was checked.
        failure: Why it could not be checked, or not as was asked; ``None`` if it was.
        not_excluded: What a clean result does not exclude, in words.
    """

    level: Level = Level.CHAIN
    chains: int = 0
    entries: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    violations_total: int = 0
    checked_through: dict[str, int] = field(default_factory=dict[str, int])
    growth: int = 0
    as_of: datetime = field(default_factory=lambda: datetime.now(UTC))
    failure: SealstreamError | None = None
    not_excluded: tuple[str, ...] = not_excluded(Level.CHAIN)

    @property
    def is_valid(self) -> bool:
        """Whether it was checked as was asked, and holds."""
        return self.exit_code == CLEAN

    @property
    def exit_code(self) -> int:
        """0 if all that was asked for was checked and holds, 1 after a violation, 2 if it could not be checked."""
        if self.violations_total:
            return VIOLATED
        return CLEAN if self.failure is None else NOT_CHECKED

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, for JSON."""
        failure = None
        if self.failure is not None:
            error = self.failure
            failure = {"message": error.message, "hint": error.hint, "type": type(error).__name__}
        return {
            "exit_code": self.exit_code,
            "level": self.level.word,
            "chains": self.chains,
            "entries": self.entries,
            "violations_total": self.violations_total,
            "violations": [violation.to_dict() for violation in self.violations],
            "checked_through": self.checked_through,
            "growth": self.growth,
            "as_of": self.as_of.isoformat(),
            "failure": failure,
            "not_excluded": list(self.not_excluded),
        }


def verify_store(
    database_url: str,
    *,
    tenant: str | None = None,
    first_seq: int | None = None,
    last_seq: int | None = None,
    require: Level = Level.CHAIN,
    against: Against | None = None,
    state_path: Path | None = None,
    on_progress: Progress | None = None,
    timeout_seconds: float = STATEMENT_SECONDS,
    workers: int = 1,
    piece_entries: int = PIECE_ENTRIES,
) -> VerifyResult:
    """Verify the store, or a part of it. Reads one snapshot; memory does not grow with the number of entries.

    What is found, and in which order, does not depend on the number of processes.

    Arguments:
        database_url: The store, as somebody who may read what is to be verified.
        tenant: Only this chain.
        first_seq: From this seq on; needs a tenant.
        last_seq: Up to this seq; needs a tenant.
        require: The level that is needed; a higher one than this check reaches counts as not checked.
        against: What was published, and whom to believe about it; ``None`` for the level ``chain``.
        state_path: A file that remembers how far all was verified. What it says was verified is not checked again but
            for its last entry; it is read at the beginning, and written as the verification goes on.
        on_progress: Called with the number of entries that are done, and of all that there are to do.
        timeout_seconds: How long the store may take for a single answer.
        workers: In how many processes. With more than one, they are started by ``spawn``: a script that calls this
            needs ``if __name__ == "__main__"``. A store of one piece is verified in this process.
        piece_entries: About how many entries are given to a process at a time.

    Returns:
        The result. Whatever keeps the store from being checked stands in it as its failure; this raises nothing of
        that kind.
    """
    result = VerifyResult()
    try:
        _check_request(tenant, first_seq, last_seq, state_path)
        if against is None and require > Level.CHAIN:
            raise ConfigError(
                f"the level {require.word} takes a policy, and none is given",
                hint="give --policy and --log, or set SEALSTREAM_POLICY and SEALSTREAM_LOG_STORAGE",
            )
        crew = Crew(database_url, workers, piece_entries, timeout_seconds)
        with ExitStack() as resources:
            state = None if state_path is None else AuditState.read(state_path)
            published = None
            if against is not None:
                published = Published(
                    against,
                    tenant,
                    timeout_seconds=timeout_seconds,
                    resources=resources,
                    followed=None if state is None else state.followed,
                )
                _gather(published, database_url, tenant, require, timeout_seconds)
            reader = resources.enter_context(open_store(database_url, timeout_seconds=timeout_seconds))
            audit = _Audit(reader, result, published, state_path, state, on_progress or _no_progress)
            audit.run(tenant, first_seq, last_seq, crew)
        _check_level(result, require, published)
    except SealstreamError as error:
        result.failure = error
    return result


def _gather(
    published: Published, database_url: str, tenant: str | None, require: Level, timeout_seconds: float
) -> None:
    """Read what is published, all of it before the store's snapshot is taken: so the store must have all of it."""
    published.gather(require)
    if published.is_mapped:
        return
    names = [tenant]
    if tenant is None:
        with open_store(database_url, timeout_seconds=timeout_seconds) as peek:
            peek.check_tables()
            names = list(peek.tenants())
    published.name(name for name in names if name is not None and is_chain(name))


def _check_level(result: VerifyResult, require: Level, published: Published | None) -> None:
    """Refuse a result that has not reached what was asked for.

    Raises:
        ConfigError: It has not.
    """
    if require <= result.level:
        return
    why = "" if published is None else published.why_not_more
    raise ConfigError(
        f"the level {require.word} is required, and this check reaches {result.level.word}{f': {why}' if why else ''}",
        hint="see what is not excluded",
    )


def _check_request(tenant: str | None, first_seq: int | None, last_seq: int | None, state_path: Path | None) -> None:
    first, last = first_seq or 0, SEQ_MAX if last_seq is None else last_seq
    if tenant is None and (first_seq is not None or last_seq is not None):
        raise ConfigError("a range of seqs needs a tenant")
    if not 0 <= first <= last <= SEQ_MAX:
        raise ConfigError(f"seq {first} to {last} is no range")
    if state_path is not None and (first_seq is not None or last_seq is not None):
        raise ConfigError("a range is verified as a whole: give it without a state file")


def _no_progress(done: int, total: int) -> None:
    del done, total


class _Audit:
    """One verification under way."""

    def __init__(
        self,
        reader: StoreReader,
        result: VerifyResult,
        published: Published | None,
        state_path: Path | None,
        state: AuditState | None,
        on_progress: Progress,
    ) -> None:
        self._reader = reader
        self._result = result
        self._published = published
        self._path = state_path
        self._on_progress = on_progress
        self._state = state
        self._done = self._total = 0
        self._progress_due = 0.0
        self._save_due = time.monotonic() + SAVE_SECONDS

    def run(self, tenant: str | None, first: int | None, last: int | None, crew: Crew) -> None:
        """Verify what was asked for.

        Raises:
            StoreError: There is nothing of it.
        """
        self._reader.check_tables()
        self._result.as_of = self._reader.as_of
        if self._path is not None:
            store = self._reader.fingerprint()
            if self._state is None:
                self._state = AuditState(store)
            self._state.require(store, self._path)
        known = {} if self._state is None else dict(self._state.ends)
        ends = self._reader.ends()
        tenants = sorted({*self._reader.tenants(), *known}) if tenant is None else [tenant]
        last = SEQ_MAX if last is None else last
        check = None
        if self._published is not None:
            check = PublishedCheck(self._published, self._reader.places(), tenant=tenant, names=tenants)

        def whole_of(name: str) -> Part:
            seen = known.get(name)
            part = Part(name, first or 0 if seen is None else seen.seq, last, seen=seen, end=ends.get(name))
            return part if check is None else check.part(part)

        self._total = sum(
            max(0, min(ends[name].seq, last) - whole_of(name).first + 1) for name in tenants if name in ends
        )
        ledger = Ledger(
            plan(map(whole_of, tenants), piece_entries=crew.piece_entries, window_of=self._window_of),
            whole_of=whole_of,
            on_end=self._remember,
            on_entries=self._step,
            on_chain=None if check is None else check.take,
        )
        try:
            crew.verify(ledger, self._reader, self._total)
            if check is not None:
                self._compare(check, ledger.found)
        finally:
            self._take(ledger.found)
            self._save()
        self._on_progress(self._result.entries, max(self._total, self._result.entries))
        if not self._result.entries and not self._result.violations_total:
            what = "nothing" if tenant is None else f"nothing of tenant {tenant} in that range"
            raise StoreError(
                f"the store shows {what} to verify",
                hint="check the name and the range, and that this login may read it (sealstream.reader_tenants)",
            )

    def _compare(self, check: PublishedCheck, found: Findings) -> None:
        """Hold what was found against what was published; only then the result has its level."""
        assert self._published is not None
        check.finish(found)
        if self._published.findings:  # there was nothing to hold it against
            return
        if self._state is not None and not found.violations_total:
            self._state.followed = self._published.followed
        result = self._result
        result.level, result.growth = self._published.level, check.growth
        result.as_of = self._published.as_of or result.as_of
        result.not_excluded = not_excluded(result.level, *self._published.words)

    def _window_of(self, tenant: str) -> int | None:
        genesis = self._reader.genesis(tenant, 0)
        return None if genesis is None else genesis.window_offsets

    def _take(self, found: Findings) -> None:
        """Take over what was found, in the order of the chains' names."""
        self._result.chains, self._result.entries = found.chains, found.entries
        self._result.violations_total = found.violations_total
        self._result.violations = found.first_violations()
        self._result.checked_through = dict(sorted(found.checked_through.items()))

    def _step(self, entries: int) -> None:
        """Count entries; now and then tell how far it is, and save what holds so far."""
        self._done += entries
        now = time.monotonic()
        if now > self._progress_due:
            self._progress_due = now + PROGRESS_SECONDS
            self._on_progress(self._done, max(self._total, self._done))
        if now > self._save_due:
            self._save()

    def _remember(self, tenant: str, end: End) -> None:
        if self._state is not None:
            self._state.ends[tenant] = end

    def _save(self) -> None:
        self._save_due = time.monotonic() + SAVE_SECONDS
        if self._state is not None and self._path is not None:
            self._state.save(self._path)
