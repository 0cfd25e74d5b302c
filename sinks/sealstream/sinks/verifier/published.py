"""What an instance has published of its chains, believed and put together: what a store is compared with.

It is read before the store's snapshot is taken. So the store has all of what is published here, or has lost it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sealstream.schemas.checkpoint import chain_origin, root_origin
from sealstream.schemas.coverage import COVERAGE_BYTES_MAX, PartitionCoverage
from sealstream.schemas.errors import (
    ConfigError,
    LeafInvalid,
    ObjectMissing,
    SealstreamError,
    StoreError,
    TileInvalid,
)
from sealstream.schemas.key_history import KeyHistory, parse_rotations
from sealstream.schemas.log_layout import (
    ROOT_CHECKPOINT,
    ROOT_PREFIX,
    chain_prefix,
    coverage_path,
    root_checkpoint_path,
    timestamp_path,
)
from sealstream.schemas.merkle import leaf_hash
from sealstream.schemas.merkle import root as root_of
from sealstream.schemas.policy import Log, Policy
from sealstream.schemas.round import Round, RoundFollower
from sealstream.schemas.tenant_map import MapLeaf, derive_nonce, map_key
from sealstream.schemas.tiles import parse_path
from sealstream.schemas.trust import Reader
from sealstream.schemas.violation import ROOT_LOG, Violation, ViolationType
from sealstream.sinks.verifier.believing import (
    CHECKPOINT_BYTES_MAX,
    Believed,
    believe,
    believe_chain,
    check_age,
    log_of,
)
from sealstream.sinks.verifier.followed import Accounts, Followed
from sealstream.sinks.verifier.levels import NO_TIME, OWN_CHECKPOINTS, Level
from sealstream.sinks.verifier.notary_hints import NotaryHints, open_hints
from sealstream.sinks.verifier.root_log import RootLog, RoundWrong
from sealstream.sinks.verifier.trusted_tiles import TrustedTiles
from sealstream.worker.objects import Objects, open_objects

_TIMESTAMPS: Final = "root/timestamps"
_TILE: Final = "tile/0/"
_KEPT: Final = "the checkpoint that was kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """What a reader brings along to compare a store with.

    Arguments:
        policy: Whom he believes (C2SP tlog-policy).
        rotations: Records of keys that followed one another; empty for none.
        storage: Where the instance publishes its logs: a directory or a URL.
        checkpoint: A root checkpoint that he kept himself; ``None`` for none.
        instance: Whose log it is; empty for the only one in the policy.
        notary_database: The notary's database, for the tenant map; empty for none.
        map_secret: What the map's nonces are made from, 32 bytes; empty for none.
        timestamp_roots: The certificates (PEM) that a timestamp must lead to.
        now_seconds: What time it is, in seconds since the Unix epoch; ``None`` for this machine's clock.
        age_seconds_max: How old the checkpoint may be; ``None`` for any age.
    """

    policy: bytes
    rotations: bytes = b""
    storage: str = ""
    checkpoint: bytes | None = None
    instance: str = ""
    notary_database: str = ""
    map_secret: bytes = b""
    timestamp_roots: str = ""
    now_seconds: int | None = None
    age_seconds_max: int | None = None


class Head(NamedTuple):
    """How far a chain was published.

    Arguments:
        size: The number of its entries.
        root: The root of its tree.
    """

    size: int
    root: bytes


class Published:
    """What was published, as far as it is believed.

    Arguments:
        against: What the reader brought along.
        tenant: The only chain that is asked for; ``None`` for all.
        timeout_seconds: How long one answer may take.
        resources: Closes what is opened here.
        followed: How far an earlier run has followed the root log: what is published now must continue that, and is
            followed from there on; ``None`` to begin with its first round.

    Raises:
        ConfigError: What the reader brought along cannot be used.
    """

    def __init__(
        self,
        against: Against,
        tenant: str | None,
        *,
        timeout_seconds: float,
        resources: ExitStack,
        followed: Followed | None = None,
    ) -> None:
        if not against.storage:
            raise ConfigError(
                "it is not said where the logs are published", hint="give --log, or set SEALSTREAM_LOG_STORAGE"
            )
        is_mapped = bool(against.notary_database and against.map_secret)
        if against.age_seconds_max is not None and not is_mapped:
            raise ConfigError(
                "nothing says how old the checkpoints of single chains are",
                hint="give the notary's database and the map's secret, or do not ask for an age",
            )
        now_seconds = int(time.time()) if against.now_seconds is None else against.now_seconds
        history = KeyHistory(parse_rotations(against.rotations) if against.rotations else ())
        self._against = against
        self._tenant = tenant
        self._reader = Reader(Policy.parse(against.policy), now_seconds, history)
        self._log: Log = log_of(self._reader.policy, against.instance)
        self.instance = self._log.key.name
        if followed is not None and followed.instance != self.instance:
            raise ConfigError(
                f"the state is of the root log of {followed.instance[:200]!r}, and not of {self.instance}",
                hint="give each instance a state file of its own",
            )
        self.followed = followed
        self._before: Followed | None = None
        self._files: Objects = open_objects(against.storage, timeout_seconds=timeout_seconds)
        self._hints: NotaryHints | None = None
        if is_mapped:
            self._hints = resources.enter_context(open_hints(against.notary_database, timeout_seconds=timeout_seconds))
        self._leaves: dict[bytes, Head] = {}
        self._names: dict[str, Head] = {}
        self.believed: Believed | None = None
        self.root_log: RootLog | None = None
        self.accounts: Accounts | None = None
        self.findings: list[Violation] = []
        self.words: tuple[str, ...] = ()

    @property
    def is_mapped(self) -> bool:
        """Whether the tenant map is known; else each chain has only its own checkpoint."""
        return self._hints is not None

    @property
    def level(self) -> Level:
        """What a comparison with it is worth."""
        if self.believed is None or not self.is_mapped:
            return Level.CHECKPOINT
        return self.believed.level

    @property
    def why_not_more(self) -> str:
        """What keeps it from a higher level, in words; empty if nothing does."""
        if not self.is_mapped:
            return "chains were compared with their own checkpoints, without the notary's database and the map's secret"
        return "" if self.believed is None else self.believed.why_not_more

    @property
    def as_of(self) -> datetime | None:
        """When the checkpoint was there, if somebody says so."""
        if not self.is_mapped or self.believed is None or self.believed.time_seconds is None:
            return None
        return datetime.fromtimestamp(self.believed.time_seconds, UTC)

    def gather(self, require: Level) -> None:
        """Read what is published up to a checkpoint that is believed.

        What is wrong with the root log is noted as findings; then there is nothing to compare chains with.

        Arguments:
            require: The level that is asked for: for ``ANCHORED``, the newest checkpoint that has a timestamp.

        Raises:
            SealstreamError: There is no checkpoint that is believed, or something that it takes is not there.
        """
        try:
            tiles = self._root(require)
            if tiles is None or not self.is_mapped:
                self.words = (OWN_CHECKPOINTS, NO_TIME)
                return
            self.root_log = RootLog(self.instance, tiles, (self._published_coverage, self._hinted_coverage))
            if self._tenant is None:
                self.accounts = self._follow(self.root_log, tiles)
            if tiles.size:
                self._read_map(self.root_log.round(tiles.size - 1))
        except RoundWrong as wrong:
            self.findings.append(wrong.violation)
        if self.as_of is None:
            self.words = (NO_TIME,)

    def names(self) -> set[str]:
        """Return the chains that the notary knows by name."""
        return set() if self._hints is None else self._hints.chains()

    @property
    def heads(self) -> dict[str, Head]:
        """How far the chains that were named were published; those that were not are left out."""
        return dict(self._names)

    def new_rounds(self) -> Iterator[tuple[Round, tuple[PartitionCoverage, ...]]]:
        """Yield the rounds behind those that an earlier run has followed, with what they cover.

        Raises:
            RoundWrong: One of them does not continue the one before.
            StoreError: One of them, or its coverage, is not there.
        """
        return iter(()) if self.root_log is None else self.root_log.rounds(self._follower())

    def name(self, chains: Iterable[str]) -> None:
        """Look for what was published of chains.

        Raises:
            SealstreamError: A chain's own checkpoint, where there is no map, cannot be read or is not believed.
        """
        for chain in chains:
            head = self._own(chain) if not self.is_mapped else self._mapped(chain)
            if head is not None:
                self._names[chain] = head

    def nameless(self) -> dict[bytes, Head]:
        """Return what the map has under keys that belong to none of the chains that were named."""
        if not self.is_mapped:
            return {}
        named = {self._key(chain) for chain in self._names}
        return {key: head for key, head in self._leaves.items() if key not in named}

    def tiles_of(self, chain: str) -> TrustedTiles:
        """Return a chain's tiles, held against the root that was published.

        Raises:
            ObjectMissing: They are gone.
            TileInvalid: They are another log's.
        """
        head = self._names[chain]
        return TrustedTiles(head.size, head.root, self._reader_below(chain_prefix(chain)))

    def when(self, round_number: int) -> str:
        """Return in words when a round was published, as far as somebody says so."""
        with suppress(SealstreamError):
            note = self._files.get(root_checkpoint_path(round_number + 1), bytes_max=CHECKPOINT_BYTES_MAX)
            found = believe(note, self._reader, origin=root_origin(self.instance))
            if found.time_seconds is not None:
                return datetime.fromtimestamp(found.time_seconds, UTC).isoformat(sep=" ", timespec="seconds")
        made_at = None if self._hints is None else self._hints.made_at(round_number)
        return "" if made_at is None else f"{made_at.isoformat(sep=' ', timespec='seconds')} by the notary's clock"

    # -- the root log --------------------------------------------------------------------------------------------------

    def _root(self, require: Level) -> TrustedTiles | None:
        """Choose the checkpoint to go by, and return the root log's tiles held against it."""
        kept = None if self._against.checkpoint is None else self._believe(self._against.checkpoint)
        current: Believed | None
        try:
            current = self._believe(self._files.get(ROOT_CHECKPOINT, bytes_max=CHECKPOINT_BYTES_MAX))
        except ObjectMissing as error:
            if kept is None and self.is_mapped:
                raise StoreError(
                    f"no root checkpoint is published: {error.message}",
                    hint="see whether the notary and its witnesses run, and whether --log is the right place",
                ) from error
            current = kept
        if current is None:
            return None
        tiles = self._root_tiles(current)
        if kept is not None and kept is not current:
            self._compare(kept.checkpoint.size, kept.checkpoint.root, current, tiles)
        if self.followed is not None:
            self._compare(self.followed.size, self.followed.root, current, tiles, seen="the state file")
        if require is Level.ANCHORED and current.level < Level.ANCHORED:
            stamped = self._stamped(current)
            self._compare(stamped.checkpoint.size, stamped.checkpoint.root, current, tiles)
            current, tiles = stamped, self._root_tiles(stamped)
        check_age(current, self._reader.now_seconds, self._against.age_seconds_max)
        self.believed = current
        return tiles

    def _follow(self, log: RootLog, tiles: TrustedTiles) -> Accounts:
        """Follow the root log to its end, from where an earlier run has come to, and return what it accounts for."""
        if self.followed is not None and self.followed.size <= log.size:  # else an older checkpoint was asked for
            self._before = self.followed
        follower, accounts = self._follower(), Accounts()
        if self._before is not None:
            accounts = self._before.accounts.copy()
        for _, parts in log.rounds(follower):
            accounts.add(parts)
        if log.size and (self.followed is None or log.size >= self.followed.size):
            root = tiles.root_at(log.size)
            self.followed = Followed(self.instance, log.size, root, follower.previous, follower.chains, accounts)
        return accounts

    def _follower(self) -> RoundFollower:
        return RoundFollower() if self._before is None else self._before.follower()

    def _believe(self, note: bytes) -> Believed:
        origin = root_origin(self.instance)
        found = believe(note, self._reader, origin=origin)
        token = self._token(found.checkpoint.size)
        if token is None:
            return found
        return believe(note, self._reader, origin=origin, token=token, roots_pem=self._against.timestamp_roots)

    def _token(self, size: int) -> bytes | None:
        try:
            return self._files.get(timestamp_path(size))
        except ObjectMissing:
            return None

    def _stamped(self, current: Believed) -> Believed:
        """Return the newest checkpoint, up to the current one, that has a timestamp which is believed."""
        size = current.checkpoint.size
        why = current.why_not_more
        for older in self._stamped_sizes(size):
            with suppress(ObjectMissing):
                found = self._believe(self._files.get(root_checkpoint_path(older), bytes_max=CHECKPOINT_BYTES_MAX))
                if found.level is Level.ANCHORED:
                    return found
                why = found.why_not_more
        raise StoreError(f"no root checkpoint up to size {size} has a timestamp that is believed: {why}")

    def _stamped_sizes(self, size: int) -> Iterator[int]:
        try:
            paths = self._files.list(_TIMESTAMPS)
        except ConfigError:  # over HTTP nothing is listed
            hinted = None if self._hints is None else self._hints.stamped_size(size)
            yield from () if hinted is None else (hinted,)
            return
        # A path has its number in the form that the paths of tiles have.
        sizes = (parse_path(_TILE + path.removeprefix(f"{_TIMESTAMPS}/")).index for path in paths)
        yield from sorted((one for one in sizes if one <= size), reverse=True)

    def _root_tiles(self, believed: Believed) -> TrustedTiles:
        checkpoint = believed.checkpoint
        try:
            return TrustedTiles(checkpoint.size, checkpoint.root, self._reader_below(ROOT_PREFIX))
        except TileInvalid as error:
            raise self._root_wrong(
                None, ViolationType.EDITED, f"{error.message}, and not to the one that was signed"
            ) from error

    def _compare(self, size: int, root: bytes, newer: Believed, tiles: TrustedTiles, *, seen: str = _KEPT) -> None:
        """Hold what was seen before, a size and its root, against the newer checkpoint."""
        now = newer.checkpoint
        if now.size < size:
            what = f"it has {now.size} rounds, and {seen} has {size}"
            raise self._root_wrong(now.size, ViolationType.ROLLBACK, what)
        try:
            continued = tiles.root_at(size)
        except TileInvalid as error:
            raise self._root_wrong(None, ViolationType.EDITED, error.message) from error
        if continued != root:
            what = (
                f"the tree of {now.size} rounds that is published does not continue the one of {size} that was"
                " signed before: two histories were shown"
            )
            raise self._root_wrong(None, ViolationType.FORK, what, expected=root, found=now.root)

    def _root_wrong(
        self, number: int | None, kind: ViolationType, what: str, *, expected: bytes = b"", found: bytes = b""
    ) -> RoundWrong:
        return RoundWrong(
            Violation(
                type=kind,
                tenant=ROOT_LOG,
                seq=number,
                instance=self.instance,
                message=f"root log: {what}",
                expected=expected.hex(),
                found=found.hex(),
            )
        )

    def _published_coverage(self, number: int) -> bytes | None:
        try:
            return self._files.get(coverage_path(number), bytes_max=COVERAGE_BYTES_MAX)
        except ObjectMissing:
            return None

    def _hinted_coverage(self, number: int) -> bytes | None:
        return None if self._hints is None else self._hints.coverage(number)

    def _reader_below(self, prefix: str) -> Callable[[str], bytes]:
        return lambda path: self._files.get(prefix + path)

    # -- the heads of chains -------------------------------------------------------------------------------------------

    def _read_map(self, last: Round) -> None:
        """Take the tenant map of a round, if it is the one that the round commits to.

        Raises:
            StoreError: It is not, or it is no longer kept.
        """
        assert self._hints is not None
        wanted = None if self._tenant is None else self._key(self._tenant)
        count = total = 0
        before = b""

        def hashes() -> Iterator[bytes]:
            nonlocal count, total, before
            for data in self._hints.map_leaves(last.round) if self._hints is not None else ():
                leaf = MapLeaf.parse(data)
                if leaf.key <= before:
                    raise LeafInvalid("leaves of the tenant map are not in the order of their keys")
                before, count, total = leaf.key, count + 1, total + leaf.size
                if wanted is None or leaf.key == wanted:
                    self._leaves[leaf.key] = Head(leaf.size, leaf.root)
                yield leaf_hash(data)

        try:
            is_it = root_of(hashes()) == last.map_root and count == last.chains
        except LeafInvalid:
            is_it = False
        if not is_it:
            raise StoreError(
                f"the notary's database does not have the tenant map of round {last.round}: {count} chains of"
                f" {last.chains}, or other ones",
                hint="maps are kept for an hour, and for ever of timestamped rounds: see whether the notary runs",
            )
        if self.accounts is not None and total != self.accounts.entries:
            what = f"the tenant map has {total} entries, and the rounds account for {self.accounts.entries}"
            raise self._root_wrong(last.round, ViolationType.GAP, what)

    def _key(self, chain: str) -> bytes:
        return map_key(derive_nonce(self._against.map_secret, chain), chain)

    def _mapped(self, chain: str) -> Head | None:
        return self._leaves.get(self._key(chain))

    def _own(self, chain: str) -> Head | None:
        try:
            note = self._files.get(f"{chain_prefix(chain)}checkpoint", bytes_max=CHECKPOINT_BYTES_MAX)
        except ObjectMissing:
            return None
        origin = chain_origin(self.instance, chain)
        checkpoint = believe_chain(note, self._reader, log=self._log, origin=origin).checkpoint
        return Head(checkpoint.size, checkpoint.root)
