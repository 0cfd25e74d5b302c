"""One batch on its way into the store, while the next one is gathered."""

from __future__ import annotations

import threading

import pytest

from sealstream.schemas.errors import WriterConflict
from sealstream.sinks.store.batch import Batch
from sealstream.sinks.store.flight import Flight
from sealstream.sinks.store.writer import Written

BATCH = Batch({}, {0: 5}, {0: 9})
WRITTEN = Written(4, compared=False, violations=())
WAIT_SECONDS = 30


def test_a_batch_is_stored_beside_its_caller() -> None:
    """Launching returns at once; landing waits, and gives the batch with what became of it, once."""
    begin, begun = threading.Event(), threading.Event()

    def write(_batch: Batch) -> Written:
        begun.set()
        assert begin.wait(WAIT_SECONDS)
        return WRITTEN

    flight = Flight(write)
    flight.launch(BATCH)
    assert begun.wait(WAIT_SECONDS)
    assert flight.batch is BATCH
    assert not flight.done
    begin.set()
    landed = flight.land()
    flight.close()

    assert landed is not None
    assert (landed.batch, landed.written) == (BATCH, WRITTEN)
    assert flight.done
    assert flight.land() is None


def test_a_failure_is_raised_where_it_lands_and_not_before() -> None:
    """Who only waits, as a rebalance does, is not disturbed; who lands the batch is told what happened."""

    def write(_batch: Batch) -> Written:
        raise WriterConflict("another writer")

    flight = Flight(write)
    flight.launch(BATCH)
    flight.settle()
    assert flight.done
    with pytest.raises(WriterConflict, match="another writer"):
        flight.land()
    assert flight.land() is None
    flight.settle()
    flight.close()
