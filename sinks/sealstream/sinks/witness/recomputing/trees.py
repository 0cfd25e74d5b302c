"""What the rounds so far come to: each chain's tree, the tenant map, and the tree of the root log. Pure.

Three layers lie over one another: what is remembered on disk, what was found right and is not on disk yet, and what the
rounds at hand would change. The last one is thrown away where a round is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import ZERO_HASH
from sealstream.schemas.merkle import leaf_hash
from sealstream.schemas.tenant_map import MapLeaf, TenantMap, derive_nonce, map_key
from sealstream.sinks.witness.recomputing.strands import Packed
from sealstream.sinks.witness.recomputing.stretch import Place


@dataclass(slots=True)
class Log:
    """The root log up to a size.

    Arguments:
        tree: Its tree's range.
        previous: The hash of its last leaf; zeros if it has none.
        places: How far each source partition is accounted for, by topic UUID and number.
    """

    tree: CompactRange = field(default_factory=CompactRange)
    previous: bytes = ZERO_HASH
    places: dict[tuple[bytes, int], Place] = field(default_factory=dict[tuple[bytes, int], Place])

    @property
    def size(self) -> int:
        """The number of rounds."""
        return self.tree.end

    def copy(self) -> Log:
        """Return another one that grows on its own."""
        return Log(self.tree.copy(), self.previous, {key: replace(place) for key, place in self.places.items()})

    def append(self, leaf: bytes) -> None:
        """Add a round's leaf."""
        self.previous = leaf_hash(leaf)
        self.tree.append(self.previous)


@dataclass(slots=True)
class Changes:
    """What rounds have changed that is not on disk yet.

    Arguments:
        log: The root log behind them.
        chains: The chains that have grown, by name.
        roots: The root log's roots, by size.
    """

    log: Log
    chains: dict[bytes, Packed] = field(default_factory=dict[bytes, Packed])
    roots: dict[int, bytes] = field(default_factory=dict[int, bytes])


class Tenants:
    """The tenant map, brought forward by what has changed.

    Arguments:
        secret: What the nonces are made from.
        sizes_and_roots: The chains that it has at first: name, size and root.
    """

    def __init__(self, secret: bytes, sizes_and_roots: Iterable[tuple[bytes, int, bytes]]) -> None:
        self._secret = secret
        self.map = TenantMap(self.leaf(*chain) for chain in sizes_and_roots)

    def leaf(self, name: bytes, size: int, root: bytes) -> MapLeaf:
        """Return a chain's leaf."""
        chain = name.decode("ascii")
        return MapLeaf(map_key(derive_nonce(self._secret, chain), chain), size, root)

    def update(self, changed: Iterable[tuple[bytes, Packed]]) -> None:
        """Take in chains that have grown."""
        trees = ((name, CompactRange.from_state(packed.tree)) for name, packed in changed)
        self.map.update(self.leaf(name, tree.end, tree.root()) for name, tree in trees)


def layered(*layers: dict[bytes, Packed], below: Callable[[bytes], Packed | None]) -> Callable[[bytes], Packed | None]:
    """Return what looks a chain up in layers, the uppermost first, and then below them."""

    def load(name: bytes) -> Packed | None:
        for layer in layers:
            if (packed := layer.get(name)) is not None:
                return packed
        return below(name)

    return load
