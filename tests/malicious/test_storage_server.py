"""A storage over HTTP that lies, against who makes proofs out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from sealstream.schemas.errors import SealstreamError
from sealstream.sinks.proofs.archive import Archive
from sealstream.sinks.proofs.notary_reader import NotaryReader
from sealstream.sinks.proofs.proving import Prover
from sealstream.sinks.store.reader import AuditStore
from sealstream.worker.objects import open_objects
from support.malicious.served import Answering, lying_server
from support.memory_notary import MAP_SECRET, policy
from support.provable import Provable, provable

ENDLESS = bytes(30_000_000)


@pytest.fixture(scope="module")
def instance() -> Provable:
    """An instance whose storage is asked over HTTP."""
    return provable()


def _prove(instance: Provable, answering: Answering) -> int:
    """Make a proof out of what a server answers, and return the seq that it is of."""
    with lying_server(answering) as url:
        archive = Archive(cast("NotaryReader", instance.notary), open_objects(url, timeout_seconds=5.0))
        store = cast("AuditStore", instance.store)
        with Prover(store, archive, map_secret=MAP_SECRET, policy=policy()) as prover:
            return prover.get_record_proof("acme", 300).record.seq


def _true(instance: Provable) -> Answering:
    files = instance.notary.objects.files
    return lambda path: (200, files[path[1:]]) if path[1:] in files else (404, b"")


def test_a_true_storage_is_enough(instance: Provable) -> None:
    """What is published is served by any web server, and a proof is made of it."""
    assert _prove(instance, _true(instance)) == 300


LIES: dict[str, Callable[[bytes], tuple[int, bytes]]] = {
    "nothing": lambda _data: (404, b""),
    "an error": lambda _data: (500, b"oops"),
    "a page": lambda _data: (200, b"<html>please log in</html>"),
    "an empty file": lambda _data: (200, b""),
    "an endless file": lambda _data: (200, ENDLESS),
    "one bit less": lambda data: (200, bytes((data[0] ^ 1,)) + data[1:]),
    "its bytes backwards": lambda data: (200, data[::-1]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_gives_no_proof(instance: Provable, lie: str) -> None:
    """Tiles that are not those of the log end in one typed error, in bounded time and memory, and in no proof."""
    true = _true(instance)

    def answer(path: str) -> tuple[int, bytes]:
        status, data = true(path)
        return LIES[lie](data) if "tile" in path and status == 200 else (status, data)

    with pytest.raises(SealstreamError):
        _prove(instance, answer)
