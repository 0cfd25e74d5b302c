"""The sender: outcomes, room, flush and close, threads and processes; against a stand-in for Kafka."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest

from sealstream.producers.receipt import Delivery, Published, SyncReceipt
from sealstream.producers.sender import OnError, Sender
from sealstream.schemas.codec import EventReader, encode_event
from sealstream.schemas.entry import payload_digest
from sealstream.schemas.errors import ClientUnusable, DeliveryError, EventInvalid, QueueFull, Unreachable
from support.fake_transport import FakeTransport, event, options, timed_out
from support.workers import wait_for

SECONDS = 10.0


class Setup(Protocol):
    """Makes a started sender with a stand-in for Kafka."""

    def __call__(
        self, *, on_error: OnError | None = None, at_once: bool = False, **changes: Any
    ) -> tuple[Sender, FakeTransport]:
        """Make one, with some options changed."""
        ...


class Told:
    """An ``on_error`` that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, delivery: Delivery, error: DeliveryError) -> None:
        """Remember the event's id and the error's code."""
        self.events.append((delivery.id, error.code))


@pytest.fixture
def setup() -> Iterator[Setup]:
    """Make started senders with a stand-in for Kafka; they are closed with the test."""
    made: list[Sender] = []

    def make(*, on_error: OnError | None = None, at_once: bool = False, **changes: Any) -> tuple[Sender, FakeTransport]:
        transports: list[FakeTransport] = []

        def connect(_options: object) -> FakeTransport:
            transports.append(FakeTransport(at_once=at_once))
            return transports[0]

        sender = Sender(options(**changes), on_error, connect)
        sender.start()
        made.append(sender)
        return sender, transports[0]

    yield make
    for sender in made:
        try:
            sender.close(0)
        except DeliveryError as error:
            assert error.message  # noqa: PT017  # what a test left open was given up, as it must be


def submit(sender: Sender, **fields: Any) -> SyncReceipt:
    """Log a small event."""
    return sender.submit(event(**fields), SyncReceipt)


MANY = 640
"""More events than may be on their way before their callers take answers."""


class TestManyOnTheirWay:
    """Who logs as fast as it can takes the answers itself: the sender's thread would hardly get Python's lock."""

    def test_the_caller_takes_them_and_every_outcome_is_told(self, setup: Setup) -> None:
        """With many events on their way, answers are taken on the caller's thread, and none is lost or told twice."""
        sender, kafka = setup()
        receipts = [submit(sender) for _ in range(MANY)]
        assert set(kafka.gathered_by) == {threading.get_ident()}
        for _ in range(MANY):
            kafka.publish()
            receipts.append(submit(sender))
        for _ in range(MANY):
            kafka.publish()

        assert sender.flush(SECONDS) == 0
        assert [receipt.published(SECONDS).offset for receipt in receipts] == list(range(2 * MANY))
        assert sender.stats.published == 2 * MANY

    def test_few_are_left_to_the_thread(self, setup: Setup) -> None:
        """A caller with little on its way pays for no answers: the thread has the time."""
        sender, kafka = setup(at_once=True)
        for _ in range(MANY):
            submit(sender).published(SECONDS)

        assert kafka.gathered_by == []

    def test_a_log_handler_may_log_and_fail_meanwhile(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        """A handler that the client calls meanwhile may log events, within which nothing is taken; its error is its."""
        shown: list[str] = []

        def show(error: Exception) -> None:
            shown.append(str(error))

        monkeypatch.setattr("sealstream.producers.sender.report", show)
        sender, kafka = setup()
        inner: list[SyncReceipt] = []

        def handle() -> None:
            if not inner:
                inner.extend(submit(sender) for _ in range(MANY // 2))
                raise ValueError("the handler's own")

        kafka.on_gather = handle
        receipts = [submit(sender) for _ in range(MANY)]
        taken = len(kafka.gathered_by)
        while kafka.waiting:
            kafka.publish()

        assert sender.flush(SECONDS) == 0
        assert all(receipt.done for receipt in [*receipts, *inner])
        assert 0 < taken <= MANY // 2 // 32
        assert shown == ["the handler's own"]

    def test_a_log_handler_may_wait_for_a_thread_that_logs(self, setup: Setup) -> None:
        """A handler that the client calls meanwhile may need a lock of a thread that is in ``log()`` itself."""
        sender, kafka = setup()
        stuck: list[bool] = []
        logging = threading.Thread(target=submit, args=(sender,), daemon=True)

        def handle() -> None:
            if logging.ident is None:
                logging.start()
                logging.join(SECONDS)
                stuck.append(logging.is_alive())

        kafka.on_gather = handle
        for _ in range(MANY):
            submit(sender)
        while kafka.waiting:
            kafka.publish()

        assert sender.flush(SECONDS) == 0
        assert stuck == [False]


class TestOutcome:
    """What becomes of an event is told at its receipt."""

    def test_a_published_event_says_where_it_stands(self, setup: Setup) -> None:
        """The receipt names the event at once, and its place once Kafka has it."""
        sender, kafka = setup()

        receipt = submit(sender, id="ev-1")
        assert (receipt.tenant, receipt.id, receipt.digest) == ("acme", "ev-1", kafka.sent[0].digest)
        assert not receipt.done
        kafka.publish()

        assert receipt.published(SECONDS) == Published(partition=0, offset=0)
        assert receipt.done
        assert receipt.error is None

    def test_a_failure_is_raised_at_the_receipt_every_time(self, setup: Setup) -> None:
        """Whoever asks a failed receipt gets the typed error, not once but always."""
        sender, kafka = setup()
        receipt = submit(sender, id="ev-1")
        kafka.fail(timed_out("ev-1"))

        for _ in range(2):
            with pytest.raises(DeliveryError, match="acme/ev-1") as caught:
                receipt.published(SECONDS)
            assert caught.value.retriable
        assert "failed" in repr(receipt)

    def test_waiting_has_a_bound(self, setup: Setup) -> None:
        """A wait that is over says that the event is still on its way; the event is not given up."""
        sender, kafka = setup()
        receipt = submit(sender)

        with pytest.raises(Unreachable, match="no outcome yet"):
            receipt.published(0.01)
        kafka.publish()

        assert receipt.published(SECONDS) == Published(0, 0)

    def test_a_failure_that_nobody_awaits_is_counted_and_told(self, setup: Setup) -> None:
        """Forgetting the receipt loses no error: it is in the books, and ``on_error`` was called."""
        told = Told()
        sender, kafka = setup(on_error=told)
        submit(sender, id="ev-1")
        kafka.fail(timed_out("ev-1"))

        with pytest.raises(DeliveryError):
            sender.flush(SECONDS)

        wait_for(lambda: told.events == [("ev-1", "_MSG_TIMED_OUT")], timeout_seconds=SECONDS, what="on_error")
        assert sender.stats.failed == 1

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_an_error_in_on_error_does_not_end_the_delivery(self, setup: Setup) -> None:
        """The callback is the application's: its own error is shown as a thread's, and later events are served."""
        shown: list[threading.ExceptHookArgs] = []

        def broken(_delivery: Delivery, _error: DeliveryError) -> None:
            raise ZeroDivisionError

        sender, kafka = setup(on_error=broken)
        first, second = submit(sender), submit(sender)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "excepthook", shown.append)
            kafka.fail(timed_out())
            kafka.publish()
            second.published(SECONDS)

        assert first.error is not None
        assert [args.exc_type for args in shown] == [ZeroDivisionError]

    def test_a_transport_that_refuses_fails_the_receipt(self, setup: Setup) -> None:
        """What Kafka's client does not even take is learnt where every other failure is: nothing is raised in log()."""
        told = Told()
        sender, kafka = setup(on_error=told, producer_id="api-1")
        kafka.refusal = DeliveryError("the client is broken", code="_FATAL", retriable=False)

        receipt = submit(sender, id="ev-1")
        kafka.refusal = None
        submit(sender, id="ev-2")

        assert receipt.error is not None
        assert not receipt.error.retriable
        assert told.events == [("ev-1", "_FATAL")]
        assert kafka.sent[0].n == 0

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_an_error_while_waiting_for_answers_does_not_end_the_delivery(self, setup: Setup) -> None:
        """A log handler that raises within Kafka's client, say, costs a message and no event."""
        sender, kafka = setup()
        with pytest.MonkeyPatch.context() as patch:
            shown: list[threading.ExceptHookArgs] = []
            patch.setattr(threading, "excepthook", shown.append)
            kafka.poll_error = RuntimeError("handler")
            receipt = submit(sender)
            kafka.publish()

            assert receipt.published(SECONDS) == Published(0, 0)
            wait_for(lambda: bool(shown), timeout_seconds=SECONDS, what="the error to be shown")


class TestRoom:
    """The queue is bounded, and what happens at the bound is the caller's choice."""

    def test_raise_refuses_and_takes_no_number(self, setup: Setup) -> None:
        """With ``raise``, the caller learns at once that there is no room, with counts and a hint."""
        sender, kafka = setup(when_full="raise", queue_events_max=1, producer_id="api-1")
        submit(sender, id="ev-1")

        with pytest.raises(QueueFull, match="acme/ev-2: 1 events of") as caught:
            submit(sender, id="ev-2")
        kafka.publish()
        sender.flush(SECONDS)
        submit(sender, id="ev-3")

        assert caught.value.hint
        assert [(record.event_id, record.n) for record in kafka.sent] == [("ev-1", 0), ("ev-3", 1)]

    def test_drop_and_count_tells_it_in_three_places(self, setup: Setup) -> None:
        """With ``drop-and-count`` nothing is raised; the receipt, the books and ``on_error`` know."""
        told = Told()
        sender, kafka = setup(when_full="drop-and-count", queue_events_max=1, on_error=told)
        submit(sender, id="ev-1")

        receipt = submit(sender, id="ev-2")

        assert isinstance(receipt.error, QueueFull)
        assert told.events == [("ev-2", "")]
        assert (sender.stats.accepted, sender.stats.dropped) == (1, 1)
        kafka.publish()
        with pytest.raises(DeliveryError, match="acme/ev-2"):
            sender.flush(SECONDS)

    def test_block_waits_for_room(self, setup: Setup) -> None:
        """With ``block``, a caller waits until others are through, and its event goes on its way."""
        sender, kafka = setup(queue_events_max=1, timeout_seconds=SECONDS, producer_id="api-1")
        submit(sender, id="ev-1")

        with ThreadPoolExecutor() as pool:
            blocked = pool.submit(submit, sender, id="ev-2")
            wait_for(lambda: sender.waiting == 1, timeout_seconds=SECONDS, what="the second event to wait")
            kafka.publish()
            receipt = blocked.result(SECONDS)
        kafka.publish()

        assert receipt.published(SECONDS) == Published(0, 1)
        assert [record.n for record in kafka.sent] == [0, 1]

    def test_block_ends_after_its_time(self, setup: Setup) -> None:
        """With ``block``, an event that found no room in time is let go and counted; nothing is raised."""
        sender, _ = setup(queue_events_max=1, timeout_seconds=0.05)
        submit(sender)

        receipt = submit(sender)

        assert isinstance(receipt.error, QueueFull)
        assert sender.stats.dropped == 1

    def test_closing_ends_a_wait_for_room(self, setup: Setup) -> None:
        """A caller that waits for room in a log that another thread closes gets a typed error."""
        sender, kafka = setup(queue_events_max=1, timeout_seconds=60.0)
        submit(sender)

        with ThreadPoolExecutor() as pool:
            blocked = pool.submit(submit, sender)
            wait_for(lambda: sender.waiting == 1, timeout_seconds=SECONDS, what="the second event to wait")
            closing = pool.submit(sender.close, SECONDS)
            error = blocked.exception(SECONDS)
            kafka.publish()
            closing.result(SECONDS)

        assert isinstance(error, ClientUnusable)

    def test_on_error_may_log_without_waiting_for_itself(self, setup: Setup) -> None:
        """On the sender's own thread, which alone makes room, ``block`` does not wait."""
        nested: list[SyncReceipt] = []

        def on_error(_delivery: Delivery, error: DeliveryError) -> None:
            if not isinstance(error, QueueFull):
                nested.extend(submit(sender, id=event_id) for event_id in ("ev-2", "ev-3"))

        sender, kafka = setup(queue_events_max=1, timeout_seconds=60.0, on_error=on_error)
        submit(sender, id="ev-1")
        kafka.fail(timed_out("ev-1"))

        wait_for(lambda: len(nested) == 2, timeout_seconds=SECONDS, what="the events logged by on_error")
        kafka.publish()

        assert nested[0].published(SECONDS) == Published(0, 1)
        assert isinstance(nested[1].error, QueueFull)
        wait_for(lambda: len(kafka.sent) == 3, timeout_seconds=SECONDS, what="the count of what found no room")
        kafka.publish()


class TestResend:
    """An event that failed can be sent again, byte for byte."""

    def test_the_bytes_are_the_same(self, setup: Setup) -> None:
        """Salt, time and count stay what they were, so a second arrival is recognised as a duplicate."""
        sender, kafka = setup(producer_id="api-1")
        failed = submit(sender, id="ev-1")
        kafka.fail(timed_out("ev-1"))
        with pytest.raises(DeliveryError):
            failed.published(SECONDS)

        again = sender.resend(failed)
        submit(sender, id="ev-2")
        kafka.publish()

        assert again.published(SECONDS) == Published(0, 1)
        assert kafka.sent[0].value == kafka.sent[1].value
        assert again.digest == failed.digest
        assert kafka.sent[2].n == 1

    def test_a_large_event_is_sent_again_too_and_its_receipt_keeps_the_digest_only(self, setup: Setup) -> None:
        """Receipts may be kept by the thousand: none of them holds a large value once Kafka's client has it."""
        sender, kafka = setup()
        value = encode_event(event(id="ev-1", metadata={"note": "x" * 5_000}))
        failed = sender.submit_value(value, SyncReceipt)
        kafka.answer(timed_out("ev-1"), value)
        with pytest.raises(DeliveryError):
            failed.published(SECONDS)

        again = sender.resend(failed)
        kafka.publish()
        again.published(SECONDS)

        assert failed.failed_value == value
        assert failed.digest == again.digest == payload_digest(value)
        assert again.value == b""

    def test_only_what_was_sent_and_failed(self, setup: Setup) -> None:
        """A receipt of an event that is still on its way, or was never sent, has nothing to send again."""
        sender, _ = setup(when_full="drop-and-count", queue_events_max=1)

        for receipt in (submit(sender), submit(sender)):
            with pytest.raises(EventInvalid, match="receipt"):
                sender.resend(receipt)


class TestFlush:
    """Flush waits for what is outstanding, and says what is wrong."""

    def test_nothing_outstanding(self, setup: Setup) -> None:
        """After events were published, flush returns 0."""
        sender, _ = setup(at_once=True)
        for _ in range(100):
            submit(sender)

        assert sender.flush(SECONDS) == 0
        assert sender.stats.published == 100

    def test_time_is_over(self, setup: Setup) -> None:
        """Flush never waits longer than asked, and returns how many events are still outstanding."""
        sender, _ = setup()
        submit(sender)
        submit(sender)

        assert sender.flush(0.05) == 2

    def test_failures_are_raised_once(self, setup: Setup) -> None:
        """A flush reports what failed since the one before."""
        sender, kafka = setup()
        for number in range(3):
            submit(sender, id=f"ev-{number}")
            kafka.fail(timed_out(f"ev-{number}"))

        with pytest.raises(DeliveryError, match="3 events were not published; the first: event acme/ev-0"):
            sender.flush(SECONDS)

        assert sender.flush(SECONDS) == 0

    def test_not_from_on_error(self, setup: Setup) -> None:
        """Waiting on the thread that brings the answers would wait for ever: refused, and closing as well."""
        refused: list[str] = []

        def on_error(_delivery: Delivery, _error: DeliveryError) -> None:
            for call in (sender.flush, sender.close):
                with pytest.raises(ClientUnusable) as caught:
                    call(SECONDS)
                refused.append(caught.value.message)

        sender, kafka = setup(on_error=on_error)
        submit(sender)
        kafka.fail(timed_out())

        wait_for(lambda: len(refused) == 2, timeout_seconds=SECONDS, what="both calls to be refused")
        assert refused[0].startswith("flush()")


class TestClose:
    """Closing is bounded and loses nothing in silence."""

    def test_it_waits_for_what_is_outstanding(self, setup: Setup) -> None:
        """Events that are on their way when the log is closed arrive."""
        sender, kafka = setup()
        receipt = submit(sender)
        with ThreadPoolExecutor() as pool:
            closing = pool.submit(sender.close, SECONDS)
            wait_for(lambda: sender.waiting == 1, timeout_seconds=SECONDS, what="close() to wait")
            kafka.publish()
            closing.result(SECONDS)

        assert receipt.published(0) == Published(0, 0)
        assert not kafka.abandoned

    def test_what_is_left_over_fails(self, setup: Setup) -> None:
        """After its time, close() gives up the rest, tells each receipt, and raises."""
        sender, kafka = setup()
        receipts = [submit(sender) for _ in range(3)]

        with pytest.raises(DeliveryError, match="3 events were not published"):
            sender.close(0.05)

        assert kafka.abandoned
        assert [receipt.error is not None for receipt in receipts] == [True] * 3

    def test_a_closed_log_refuses(self, setup: Setup) -> None:
        """Logging or flushing after close is a typed error; a second close does nothing."""
        sender, _ = setup()
        sender.close(SECONDS)
        sender.close(SECONDS)

        for call in (lambda: submit(sender), lambda: sender.flush(1), sender.start):
            with pytest.raises(ClientUnusable, match="closed"):
                call()

    def test_the_thread_ends(self, setup: Setup) -> None:
        """A closed log leaves no thread behind."""
        before = set(threading.enumerate())
        sender, _ = setup()
        started = set(threading.enumerate()) - before
        assert [thread.name for thread in started] == ["sealstream-sender"]
        sender.close(SECONDS)

        assert not started & set(threading.enumerate())

    def test_a_log_that_never_sent_closes_too(self) -> None:
        """A log without an event never connects, and closing it is nothing."""
        connected: list[FakeTransport] = []

        def connect(_options: object) -> FakeTransport:
            connected.append(FakeTransport())
            return connected[0]

        sender = Sender(options(), None, connect)
        sender.close(SECONDS)

        assert connected == []


class TestProcesses:
    """A log belongs to the process in which its first event was logged."""

    def test_a_forked_process_is_told(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        """Events of a forked process would vanish with its copied, threadless client: a typed error instead."""
        sender, kafka = setup()
        monkeypatch.setattr("os.getpid", lambda: -1)

        with pytest.raises(ClientUnusable, match="process") as caught:
            submit(sender)
        sender.close(0)  # as a `with` block around the fork does in the child

        assert caught.value.hint
        assert kafka.sent == []
        assert sender.stats.accepted == 0
        monkeypatch.undo()


class TestThreads:
    """Any number of threads may log at once."""

    def test_every_number_once_and_in_order(self, setup: Setup) -> None:
        """Counts of one tenant leave in order and without a hole, however many threads log."""
        sender, kafka = setup(at_once=True, producer_id="api-1", queue_events_max=50)

        def work(_: int) -> None:
            for _ in range(250):
                submit(sender)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert sender.flush(SECONDS) == 0

        marks = [EventReader().read(record.value).producer for record in kafka.sent]
        assert [mark.n for mark in marks if mark is not None] == list(range(1000))
