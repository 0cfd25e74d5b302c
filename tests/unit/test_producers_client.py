"""The two fronts: the same calls for asyncio and for threads; against a stand-in for Kafka."""

from __future__ import annotations

import asyncio
import gc
import inspect
from functools import partial
from typing import Any

import pytest

from sealstream.producers import (
    Actor,
    AuditLog,
    ClientUnusable,
    ConfigError,
    DeliveryError,
    EventInvalid,
    Published,
    QueueFull,
    Receipt,
    SyncAuditLog,
    SyncReceipt,
    Unreachable,
)
from sealstream.producers.sender import Sender
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import payload_digest
from sealstream.schemas.event import ProducerMark
from support.fake_transport import FakeTransport, event, timed_out

SECONDS = 10.0
ADDRESS: dict[str, Any] = {"kafka": "broker.invalid:9092", "instance": "demo.example/audit"}


@pytest.fixture
def transports(monkeypatch: pytest.MonkeyPatch) -> list[FakeTransport]:
    """Put a stand-in in the place of Kafka; the list holds one for each log that has started."""
    made: list[FakeTransport] = []

    def connect(_options: object) -> FakeTransport:
        made.append(FakeTransport())
        return made[-1]

    monkeypatch.setattr("sealstream.producers.client.Sender", partial(Sender, transport=connect))
    return made


class TestAuditLog:
    """The front for asyncio."""

    async def test_an_event_can_be_awaited_or_not(self, transports: list[FakeTransport]) -> None:
        """``log()`` returns at once; awaiting its receipt waits for Kafka."""
        async with AuditLog(**ADDRESS) as audit:
            receipt = audit.log(event(id="ev-1"))
            assert isinstance(receipt, Receipt)
            assert not receipt.done
            transports[0].publish()

            assert await receipt == Published(0, 0)
            assert await receipt.published() == Published(0, 0)

    async def test_the_call_with_fields(self, transports: list[FakeTransport]) -> None:
        """``await audit.log(...)`` takes the fields themselves, in their short forms."""
        async with AuditLog(**ADDRESS) as audit:
            receipt = audit.log(tenant="acme", actor="user:42", action="document.updated", target="document:7")
            transports[0].publish()
            await receipt

        assert receipt.tenant == "acme"
        assert dict(transports[0].sent[0].headers)["ce_type"] == b"document.updated"

    async def test_final_bytes_are_sent_as_they_are(self, transports: list[FakeTransport]) -> None:
        """``log_value()`` adds nothing, not even this log's mark: the receipt's digest is that of the bytes given."""
        logged = event(id="ev-1", producer=ProducerMark("other", 1, 7))
        async with AuditLog(**ADDRESS, producer_id="api-1") as audit:
            receipt = audit.log_value(encode_event(logged))
            transports[0].publish()
            await receipt

        [sent] = transports[0].sent
        assert sent.value == encode_event(logged)
        assert (receipt.tenant, receipt.id, receipt.digest) == ("acme", "ev-1", payload_digest(sent.value))
        assert dict(sent.headers)["ce_type"] == logged.action.encode()

    async def test_many_may_wait_for_one_event(self, transports: list[FakeTransport]) -> None:
        """Every task that awaits a receipt is woken."""
        async with AuditLog(**ADDRESS) as audit:
            receipt = audit.log(event())
            tasks = [asyncio.ensure_future(receipt.published(SECONDS)) for _ in range(5)]
            await asyncio.sleep(0)
            transports[0].publish()

            assert await asyncio.gather(*tasks) == [Published(0, 0)] * 5

    async def test_cancelling_a_wait_cancels_no_event(self, transports: list[FakeTransport]) -> None:
        """A request that is cancelled while it waits has logged its event all the same."""
        async with AuditLog(**ADDRESS) as audit:
            receipt = audit.log(event())
            task = asyncio.ensure_future(receipt.published())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            transports[0].publish()

            assert await receipt == Published(0, 0)

    async def test_waiting_has_a_bound(self, transports: list[FakeTransport]) -> None:
        """A wait that is over says that the event is still on its way."""
        async with AuditLog(**ADDRESS) as audit:
            receipt = audit.log(event())
            with pytest.raises(Unreachable):
                await receipt.published(0.01)
            transports[0].publish()

    async def test_a_failure_is_raised_where_it_is_awaited(self, transports: list[FakeTransport]) -> None:
        """Awaiting a receipt whose event failed raises the typed error."""
        audit = AuditLog(**ADDRESS)
        receipt = audit.log(event())
        transports[0].fail(timed_out())

        with pytest.raises(DeliveryError):
            await receipt
        with pytest.raises(DeliveryError):
            await audit.flush(SECONDS)
        await audit.close()

    async def test_the_loop_is_never_held_for_room(self, transports: list[FakeTransport]) -> None:
        """By default a full queue raises here: waiting would stop every other task."""
        async with AuditLog(**ADDRESS, queue_events_max=1) as audit:
            audit.log(event())
            with pytest.raises(QueueFull):
                audit.log(event())
            transports[0].publish()

    async def test_the_loop_runs_while_flush_waits(self, transports: list[FakeTransport]) -> None:
        """``flush()`` and ``close()`` wait on another thread."""
        async with AuditLog(**ADDRESS) as audit:
            audit.log(event())
            flushing = asyncio.ensure_future(audit.flush(SECONDS))
            await asyncio.sleep(0.01)
            assert not flushing.done()
            transports[0].publish()

            assert await flushing == 0

    async def test_failures_surface_at_the_end_of_the_block(self, transports: list[FakeTransport]) -> None:
        """Leaving the block raises what failed and was not flushed, so forgetting receipts hides nothing."""

        async def forget() -> None:
            async with AuditLog(**ADDRESS) as audit:
                audit.log(event())
                transports[0].fail(timed_out())

        with pytest.raises(DeliveryError, match="timed out"):
            await forget()

    async def test_another_error_is_not_replaced(self, transports: list[FakeTransport]) -> None:
        """An error from within the block goes on its way, with what failed as a note."""

        async def fail() -> None:
            async with AuditLog(**ADDRESS) as audit:
                audit.log(event())
                transports[0].fail(timed_out())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            await fail()

        assert "timed out" in caught.value.__notes__[0]

    def test_an_outcome_may_come_after_the_loop(self, transports: list[FakeTransport]) -> None:
        """A loop that waited for an event and was closed does not keep its outcome from being told."""
        audit = AuditLog(**ADDRESS)
        receipt = audit.log(event())
        with asyncio.Runner() as runner, pytest.raises(Unreachable):
            runner.run(receipt.published(0.01))
        transports[0].publish()

        assert asyncio.run(receipt.published(SECONDS)) == Published(0, 0)
        asyncio.run(audit.close())


class TestSyncAuditLog:
    """The front for threads."""

    def test_an_event_goes_through(self, transports: list[FakeTransport]) -> None:
        """``log()`` returns at once; the receipt can be waited on."""
        with SyncAuditLog(**ADDRESS) as audit:
            receipt = audit.log(tenant="acme", actor=Actor("user", "42"), action="document.updated")
            assert isinstance(receipt, SyncReceipt)
            transports[0].publish()

            assert receipt.published(SECONDS) == Published(0, 0)
            assert audit.stats.published == 1

    def test_failures_surface_at_the_end_of_the_block(self, transports: list[FakeTransport]) -> None:
        """Leaving the block raises what failed and was not flushed."""

        def forget() -> None:
            with SyncAuditLog(**ADDRESS) as audit:
                audit.log(event())
                transports[0].fail(timed_out())

        with pytest.raises(DeliveryError, match="timed out"):
            forget()

    def test_another_error_is_not_replaced(self, transports: list[FakeTransport]) -> None:
        """An error from within the block goes on its way, with what failed as a note."""

        def fail() -> None:
            with SyncAuditLog(**ADDRESS) as audit:
                audit.log(event())
                transports[0].fail(timed_out())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            fail()

        assert "timed out" in caught.value.__notes__[0]

    def test_a_failed_event_is_sent_again(self, transports: list[FakeTransport]) -> None:
        """``resend()`` gives a new receipt for the same bytes."""
        audit = SyncAuditLog(**ADDRESS)
        receipt = audit.log(event())
        transports[0].fail(timed_out())
        with pytest.raises(DeliveryError):
            audit.flush(SECONDS)

        again = audit.resend(receipt)
        transports[0].publish()

        assert again.published(SECONDS).partition == 0
        audit.close()

    def test_nothing_is_connected_before_the_first_event(self, transports: list[FakeTransport]) -> None:
        """A log may be made when a module is imported, before a server forks its workers."""
        audit = SyncAuditLog(**ADDRESS)
        assert transports == []

        audit.log(event())
        transports[0].publish()
        audit.close()

        assert len(transports) == 1

    def test_a_log_that_nobody_closed_warns(self, transports: list[FakeTransport]) -> None:
        """Forgetting to close is a ResourceWarning, as with files; the events are sent nevertheless."""
        receipts: list[SyncReceipt] = []

        def forget() -> None:
            receipts.append(SyncAuditLog(**ADDRESS).log(event()))
            gc.collect()

        with pytest.warns(ResourceWarning, match="SyncAuditLog was not closed"):
            forget()
        transports[0].publish()

        assert receipts[0].published(SECONDS) == Published(0, 0)

    def test_a_callers_mistake_is_raised_at_once(self, transports: list[FakeTransport]) -> None:
        """An invalid event is the one thing that ``log()`` always raises for; it is named by its field."""
        with SyncAuditLog(**ADDRESS) as audit:
            with pytest.raises(EventInvalid) as caught:
                audit.log(tenant="!acme", actor="user:1", action="a")
            with pytest.raises(EventInvalid, match="together with fields"):
                audit.log(event(), tenant="acme")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

        assert caught.value.field == "tenant"
        assert transports[0].sent == []

    def test_a_wrong_option_is_named_at_once(self) -> None:
        """A wrong option is met where the log is made."""
        with pytest.raises(ConfigError, match="instance"):
            SyncAuditLog(kafka="broker.invalid:9092", instance="Not a name")

    def test_a_closed_log_refuses(self, transports: list[FakeTransport]) -> None:
        """Logging after close is a typed error."""
        with SyncAuditLog(**ADDRESS) as audit:
            pass

        with pytest.raises(ClientUnusable):
            audit.log(event())
        assert transports[0].sent == []


@pytest.mark.parametrize("name", ["__init__", "log", "resend", "flush", "close"])
def test_both_fronts_take_the_same_arguments(name: str) -> None:
    """Whoever knows one front knows the other."""
    asynchronous, synchronous = (inspect.signature(getattr(front, name)) for front in (AuditLog, SyncAuditLog))

    assert asynchronous.parameters == synchronous.parameters
