"""What a recomputing witness has to know to begin in the middle of a log: as if it had computed everything before.

Trusted are the root checkpoint, by the operator's word, and the verifier, as always. Names come from audit.verifier,
and trees from the published files: both are only hints, since all of it has to come to the checkpoint's root.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import CheckpointRefused, ConfigError
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.tenant_name import is_chain
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.witness.recomputing.chain_cut import ChainFiles, NotPublished
from sealstream.sinks.witness.recomputing.cut import Cut
from sealstream.sinks.witness.recomputing.published import PublishedRounds
from sealstream.sinks.witness.recomputing.retained import places_behind
from sealstream.sinks.witness.recomputing.sources import Sources
from sealstream.sinks.witness.recomputing.strands import Packed
from sealstream.sinks.witness.recomputing.trees import Changes, Log, Tenants
from sealstream.worker.logs import logger

_READERS: Final = 16
"""Chains whose files are read side by side."""
_BLOCK_CHAINS: Final = 1_000
_SHOWN_CHAINS: Final = 5


class Middle:
    """Finds the chains of a round, and shows that they are all of them.

    Arguments:
        published: What the log's owner has published.
        keys: The keys that have ever signed the log.
        instance: The instance.
        secret: What the nonces of the tenant map are made from.
    """

    def __init__(
        self, published: PublishedRounds, keys: Collection[VerifierKey], *, instance: str, secret: bytes
    ) -> None:
        self._published = published
        self._keys = tuple(keys)
        self._instance = instance
        self._secret = secret

    def begin(self, checkpoint: Checkpoint, epochs: Sequence[Sources]) -> Changes:
        """Return everything as it was at a checkpoint.

        Arguments:
            checkpoint: A root checkpoint that is trusted, of at least one round.
            epochs: What is read; the verifier's word of each is known.

        Raises:
            CheckpointRefused: What is published does not come to the checkpoint's root; names the chain where one is at
                fault.
            SourceExpired: Something behind the checkpoint is no longer on audit.chained.
            StoreError, Unreachable: The storage or Kafka cannot be read.
        """
        cut = Cut(self._published, checkpoint)
        chains = self.chains(cut, {chain.name for one in epochs for chain in _known(one)})
        sizes = {name: CompactRange.from_state(packed.tree).end for name, packed in chains.items()}
        places = [place for one in epochs for place in places_behind(one, cut.end, lambda name: sizes.get(name, 0))]
        log = Log(cut.tree, cut.previous, {(place.topic_id, place.partition): place for place in places})
        logger().info("everything up to the checkpoint was found", size=checkpoint.size, chains=len(chains))
        return Changes(log, chains, {checkpoint.size: checkpoint.root})

    def chains(self, cut: Cut, names: Collection[bytes]) -> dict[bytes, Packed]:
        """Return all chains of a round.

        Arguments:
            cut: The round.
            names: The chains that are known of, newer ones included.

        Raises:
            CheckpointRefused: They do not come to the map of the round.
            StoreError, Unreachable: The storage cannot be read.
        """
        unpublished: list[str] = []
        chains = dict(self._cut_all(sorted(names), cut.end, unpublished))
        if len(chains) < cut.leaf.chains:  # the verifier does not know those that were not gone on with for long
            more = self._listed() - {name.decode("ascii", "replace") for name in names}
            chains |= self._cut_all(sorted(name.encode() for name in more), cut.end, unpublished)
        number, wanted = cut.leaf.round, cut.leaf.chains
        if len(chains) < wanted:
            raise CheckpointRefused(
                f"round {number} has {wanted} chains, and {len(chains)} can be found{_shown(unpublished)}",
                hint="the files of a chain are gone from the storage, or it cannot be listed: name it as a directory or"
                " s3://, gs://, az:// once",
            )
        trees = ((name, CompactRange.from_state(packed.tree)) for name, packed in chains.items())
        tenants = Tenants(self._secret, ((name, tree.end, tree.root()) for name, tree in trees)).map
        if (tenants.size, tenants.root()) != (wanted, cut.leaf.map_root):
            raise CheckpointRefused(
                f"round {number} has {wanted} chains, and the {len(chains)} that are published come to another map",
                hint="SEALSTREAM_MAP_SECRET is another one than the notary's; or an older state of a chain's files was"
                " put back, or the log has signed two histories: see who can write to the storage",
            )
        return chains

    def _cut_all(
        self, names: Iterable[bytes], end: Callable[[bytes, int], int], unpublished: list[str]
    ) -> Iterator[tuple[bytes, Packed]]:
        """Yield the chains that have begun before a cut; gather the names of those of which nothing is published."""

        def read(name: bytes) -> Packed | None:
            chain = name.decode("ascii")
            read_file = self._published.chain_reader(chain)
            try:
                return ChainFiles(chain, chain_origin(self._instance, chain), read_file, self._keys).cut(end)
            except NotPublished:
                unpublished.append(chain)
                return None

        rest = iter([name for name in names if is_chain(name.decode("ascii", "replace"))])
        with ThreadPoolExecutor(_READERS, thread_name_prefix="chains") as readers:
            while block := list(islice(rest, _BLOCK_CHAINS)):
                found = zip(block, readers.map(read, block), strict=True)
                yield from ((name, packed) for name, packed in found if packed is not None)

    def _listed(self) -> set[str]:
        try:
            return self._published.chain_names()
        except ConfigError as error:
            logger().warning("the storage cannot be listed for more chains", reason=error.message)
            return set()


def _known(sources: Sources) -> Iterator[Chain]:
    for number in range(sources.partitions):
        yield from sources.word.known(number)


def _shown(names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(sorted(names)[:_SHOWN_CHAINS])
    return f"; nothing is published of {shown}" + (" and others" if len(names) > _SHOWN_CHAINS else "")
