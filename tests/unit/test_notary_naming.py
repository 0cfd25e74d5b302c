"""A notary that halts says which chains it is about, in its error and in its log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import pytest

from sealstream.schemas.entry import entry_hash, parse
from sealstream.schemas.errors import ChainPlace, RolledBack, SealstreamError, StoreDamaged, TreeDiffers, Unreachable
from sealstream.sinks.notary.chains import Chains
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.naming import CHAINS_NAMED_MAX, log_fields, places_of, with_chains
from sealstream.sinks.notary.scrub import Scrub
from sealstream.sinks.notary.steps import ChainHead
from sealstream.sinks.notary.stored import ChainRange, Snapshot, Store, StoredEntry
from sealstream.sinks.notary.stored_rows import Link
from support.chained import Chains as MadeChains
from support.notarised import SECRET


class _Entries:
    """A store that has these entries."""

    def __init__(self, entries: Iterable[bytes]) -> None:
        self._entries = [(parse(one), one) for one in entries]

    def entries(self, ranges: Iterable[ChainRange]) -> Iterator[StoredEntry]:
        """Return entries of ranges."""
        for chain, begin, end in ranges:
            for fields, data in self._entries:
                if fields.tenant == chain and begin <= fields.seq < end:
                    yield StoredEntry(chain, fields.seq, entry_hash(data), data)


class _Silent:
    """A database that does not answer."""

    def load(self) -> None:
        """Raise."""
        raise Unreachable("it does not answer")


def _history(*words: str) -> list[bytes]:
    made = MadeChains()
    return [one.entry for word in words for one in made.event("acme", word)]


def _heads(entries: list[bytes]) -> Chains:
    """Return heads over a chain."""
    chains = Chains(SECRET)
    links = [cast("Link", _Hashed(one)) for one in entries]
    chains.apply([chains.grow("acme", links, 0)])
    return chains


class _Hashed:
    def __init__(self, entry: bytes) -> None:
        self.hash = entry_hash(entry)
        self.partition = parse(entry).partition


def _scrub(chains: Chains, entries: list[bytes]) -> None:
    Scrub(chains).run(cast("Snapshot", _Entries(entries)))


def test_chain_written_anew_under_a_running_notary_is_named() -> None:
    """A chain that holds together and is not the one committed to is named with the place of the entry compared."""
    entries = _history("one", "two", "three")
    chains = _heads(entries)
    _scrub(chains, entries)
    with pytest.raises(StoreDamaged) as caught:
        _scrub(chains, _history("one", "other", "three"))
    assert places_of(caught.value) == (("acme", 3),)


def test_head_that_is_not_its_chains_is_named() -> None:
    """Entries that are those committed to, under a head with another root, speak against the notary's database."""
    entries = _history("one", "two")
    head = _heads(entries).head("acme")
    assert head is not None
    other = ChainHead(head.chain, head.partition, head.size, bytes(32), head.last_hash, head.hashes, 0, 0)
    with pytest.raises(TreeDiffers, match="acme") as caught:
        _scrub(Chains(SECRET, [other]), entries)
    assert places_of(caught.value) == (("acme", None),)
    assert "notary's database" in caught.value.hint


@pytest.mark.parametrize("kind", [TreeDiffers, RolledBack])
def test_halt_is_never_hidden_by_the_look_for_its_chains(kind: type[TreeDiffers | RolledBack]) -> None:
    """Where databases do not answer, the halt stays what it is, and says that the chains could not be looked up."""
    halt = kind("the end is missing", places=[ChainPlace("acme", 3)], hint="restore it")
    named = with_chains(halt, cast("NotaryDatabase", _Silent()), cast("Store", None), secret=SECRET)
    assert (type(named), named.places, named.hint) == (kind, halt.places, "restore it")
    assert "could not be looked up: it does not answer" in named.message
    assert "concerned: acme from seq 3 on" in named.message


def test_log_line_says_which_chains_and_is_bounded() -> None:
    """The first chain has fields of its own; of many, some are listed, and all are counted."""
    many = [ChainPlace(f"t-{number:03}", number) for number in range(CHAINS_NAMED_MAX + 5)]
    fields = log_fields(TreeDiffers("it differs", places=many))
    assert (fields["tenant"], fields["seq"], fields["chains"]) == ("t-000", 0, len(many))
    assert fields["places"] == [f"{tenant} from seq {seq} on" for tenant, seq in many[:CHAINS_NAMED_MAX]]
    assert log_fields(StoreDamaged("acme", 7, "it was changed")) == {"tenant": "acme", "seq": 7}
    assert log_fields(SealstreamError("it does not say")) == {}
