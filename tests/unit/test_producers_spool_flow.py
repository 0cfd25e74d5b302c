"""The order of sending with a spool: the window, going back after a failure, and refusals. Without I/O."""

from __future__ import annotations

import random

import pytest

from sealstream.producers.receipt import NO_SPOOL, Delivery
from sealstream.producers.spool.flow import BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, Flow

LATER = 1000.0


def item(number: int, *, is_stored: bool = True) -> Delivery:
    """Return an event of a number."""
    delivery = Delivery("acme", f"ev-{number}", b"x" * 10, b"", [])
    delivery.begin("demo.example/audit", is_stored or NO_SPOOL)
    delivery.number = number
    return delivery


def items(*numbers: int) -> list[Delivery]:
    """Return stored events of some numbers."""
    return [item(number) for number in numbers]


def flow(*numbers: int, events_max: int = 100, bytes_max: int = 10**6) -> Flow:
    """Return a flow to which some events were stored at once."""
    made = Flow(events_max, bytes_max)
    if numbers:
        made.stored(items(*numbers))
    return made


def send(which: Flow, now: float = 0.0) -> list[int]:
    """Send what may be sent now, and return the numbers."""
    sent: list[int] = []
    while (found := which.next(now)) is not None:
        which.sent(found)
        sent.append(found.number)
    return sent


class TestOrder:
    """Events go in the order of ``log()``."""

    def test_stored_events_go_in_order_and_their_rows_are_done_once_published(self) -> None:
        """What Kafka acknowledged, in whatever order, is to be deleted; the rest is not."""
        which = flow(1, 2, 3)

        assert send(which) == [1, 2, 3]
        which.published(3)
        which.published(1)

        assert which.take_done() == [3, 1]
        assert which.take_done() == []
        assert which.on_its_way == 1

    def test_what_does_not_fit_the_window_is_read_back_when_its_turn_comes(self) -> None:
        """Memory holds no more than its bound, and the order stays: nothing overtakes what is on the disk."""
        which = flow(1, 2, events_max=2)

        assert not which.stored(items(3, 4))
        assert not which.stored(items(5))
        assert len(which.in_memory()) == 2
        assert send(which) == [1, 2]
        assert which.rows_wanted() is None, "the window is full"
        which.published(1)
        assert which.rows_wanted() == (2, 5)
        which.rows_read(items(3), 3)
        assert send(which) == [3]
        which.published(2)
        which.rows_read(items(4, 5), 5)
        assert send(which) == [4, 5]
        assert not which.is_behind
        which.published(3)
        which.published(4)
        which.published(5)
        assert which.stored(items(6)), "it is in memory again"

    def test_bytes_bound_the_window_too(self) -> None:
        """A few large events fill it as many small ones do."""
        which = flow(1, bytes_max=600)

        assert not which.stored(items(2))
        assert which.is_behind

    def test_what_an_earlier_process_left_goes_first(self) -> None:
        """Rows that are found at start come before events that were logged since."""
        which = Flow(100, 10**6)
        which.found(7)
        which.stored(items(8))

        assert which.next(0) is None
        assert which.rows_wanted() == (0, 8)
        which.rows_read(items(5, 7, 8), 8)
        assert send(which) == [5, 7, 8]

    def test_events_in_memory_only_wait_behind_rows_of_lower_numbers(self) -> None:
        """An event that the spool did not take is no reason to overtake those that it has."""
        which = flow(1, events_max=1)
        which.stored(items(2, 3))
        which.not_stored([item(4, is_stored=False)])
        which.stored(items(5))
        send(which)
        which.published(1)

        which.rows_read(items(2), 2)
        assert send(which) == [2]
        which.published(2)
        which.rows_read(items(3, 5), 5)
        assert send(which) == [3, 4, 5]

    def test_events_in_memory_only_never_block_the_reading_of_rows(self) -> None:
        """However many events the spool does not take, those on the disk get their turn."""
        which = flow(1, events_max=2)
        which.stored(items(2, 3))
        which.not_stored([item(number, is_stored=False) for number in range(4, 20)])
        send(which)
        which.published(1)

        assert which.rows_wanted() == (1, 3)
        which.rows_read(items(2, 3), 3)
        assert send(which) == list(range(2, 20))
        which.published(10)
        assert which.take_done() == [1], "an event in memory only has no row to delete"

    def test_rows_that_cannot_be_read_do_not_hold_up_what_is_in_memory(self) -> None:
        """The disk may give them back later: they go then, and order is lost rather than events."""
        which = flow(1, events_max=1)
        which.stored(items(2))
        which.not_stored([item(3, is_stored=False)])
        send(which)
        which.published(1)
        which.overtake()
        assert send(which) == [3]
        which.published(3)
        which.rows_read(items(2), 2)

        assert send(which) == [2]

    def test_rows_that_are_gone_do_not_hold_up_what_follows(self) -> None:
        """If the disk gives nothing back, the events behind go on."""
        which = flow(1, events_max=1)
        which.stored(items(2))
        which.not_stored([item(3, is_stored=False)])
        send(which)
        which.published(1)
        which.rows_read([], 2)

        assert send(which) == [3]


class TestGoingBack:
    """After a failure: wait for everything on its way, then go on with the lowest that Kafka does not have."""

    def test_nothing_is_sent_until_everything_on_its_way_has_its_outcome(self) -> None:
        """Then what failed goes again, in order, before anything new."""
        which = flow(1, 2, 3, 4)
        for _ in range(3):
            found = which.next(0)
            assert found is not None
            which.sent(found)

        which.failed(1, "retry", 0)
        assert send(which, LATER) == []
        which.failed(3, "retry", 0)
        which.published(2)

        assert send(which, LATER) == [1, 3, 4]
        assert which.take_done() == [2]

    def test_it_waits_longer_each_time_up_to_a_bound_and_begins_anew_after_a_success(self) -> None:
        """A way that is blocked is tried again soon, then seldom; several failures at once are one."""
        which, now, waits = flow(1, 2), 0.0, list[float]()
        for _ in range(9):
            assert send(which, now) == [1, 2]
            which.failed(1, "retry", now)
            which.failed(2, "retry", now)
            begin = now
            while which.next(now) is None:
                now += 0.05
            waits.append(now - begin)

        assert BACKOFF_SECONDS <= waits[0] < 2 * BACKOFF_SECONDS
        assert waits == sorted(waits)
        assert BACKOFF_SECONDS_MAX <= waits[-1] < BACKOFF_SECONDS_MAX + 0.1
        send(which, now)
        which.published(1)
        which.failed(2, "retry", now)
        assert send(which, now + 2 * BACKOFF_SECONDS) == [2]

    def test_an_event_that_is_not_even_taken_is_tried_again(self) -> None:
        """As when the topic is unknown to the client: the event keeps its place."""
        which = flow(1, 2)
        found = which.next(0)
        assert found is not None

        assert which.unsendable(found, "retry", 0) is None
        assert which.next(0) is None
        assert send(which, LATER) == [1, 2]


class TestRefusals:
    """An event that Kafka refuses for itself does not block the others, and takes none of them with it."""

    def test_a_refusal_is_believed_only_of_an_event_that_travelled_alone(self) -> None:
        """Kafka refuses a whole batch for one event: each is sent alone, and the innocent ones arrive."""
        which = flow(1, 2, 3)
        send(which)

        assert which.failed(1, "refused", 0) is None
        assert which.failed(2, "refused", 0) is None
        which.published(3)
        assert send(which) == [1]
        assert which.failed(1, "refused", 0) is not None, "it was alone"
        assert send(which) == [2]
        which.published(2)

        assert sorted(which.take_done()) == [2, 3]
        which.stored(items(4, 5))
        assert send(which) == [4, 5], "and all is as before"

    def test_a_suspect_waits_until_nothing_else_is_on_its_way(self) -> None:
        """Else it would not be alone."""
        which = flow(1, 2, 3)
        send(which)
        which.published(1)
        which.failed(3, "refused", 0)
        which.failed(2, "retry", 0)

        assert send(which, LATER) == [2]
        which.published(2)
        assert send(which, LATER) == [3]

    def test_what_the_client_itself_refuses_is_refused_at_once(self) -> None:
        """It was one event that was offered, so it is known which."""
        which = flow(1, 2)
        found = which.next(0)
        assert found is not None

        assert which.unsendable(found, "refused", 0) == found
        assert send(which) == [2]


@pytest.mark.parametrize("seed", range(100))
def test_every_event_arrives_whatever_fails(seed: int) -> None:
    """For any mix of groups, windows, failures and poison: all arrive but the poison; nothing is lost or stuck."""
    chance = random.Random(seed)
    total = chance.randint(1, 30)
    poison = {chance.randint(1, total) for _ in range(chance.randint(0, 3))}
    which, disk, logged = Flow(chance.randint(1, 8), 10**6), dict[int, Delivery](), 0
    arrived, refused = list[int](), list[int]()
    for step in range(500):
        now = step * 10.0
        if logged < total and chance.random() < 0.5:
            group = items(*range(logged + 1, min(total, logged + chance.randint(1, 5)) + 1))
            logged = group[-1].number
            if chance.random() < 0.7:
                disk |= {entry.number: entry for entry in group}
                which.stored(group)
            else:
                which.not_stored(group)
        wanted = which.rows_wanted()
        if wanted is not None:
            rows = [entry for number, entry in sorted(disk.items()) if wanted[0] < number <= wanted[1]][:3]
            which.rows_read(rows, rows[-1].number if rows else wanted[1])
        batch = send(which, now)
        is_refused = bool(poison & set(batch))
        for number in chance.sample(batch, len(batch)):
            if step < 100 and chance.random() < 0.2:
                which.failed(number, "retry", now)
            elif is_refused:
                refused += [] if which.failed(number, "refused", now) is None else [number]
            else:
                which.published(number)
                arrived.append(number)

    assert sorted(arrived + refused) == list(range(1, total + 1))
    assert set(refused) == poison
    assert not which.in_memory()
