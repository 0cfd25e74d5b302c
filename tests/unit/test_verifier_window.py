"""The verifier's duplicate window: its edges, and its equality with a list that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.entry import payload_digest
from sealstream.sinks.verifier.window import MICROSECONDS, Repeat, Window, name_of

W, A = 10, 60
NAME = name_of(b"acme", b"id-1")
SAME, OTHER = payload_digest(b"same"), payload_digest(b"other")


def _window(*seen: tuple[int, int, bytes, int]) -> Window:
    window = Window(W, A)
    for offset, received, digest, seq in seen:
        window.add(NAME, offset, received, digest, seq)
    return window


def test_a_repeat_is_found_up_to_the_last_offset_of_the_window() -> None:
    """A record W offsets behind another one repeats it; one offset later it does not."""
    assert _window((5, 0, SAME, 1)).find(NAME, 5 + W, 0, SAME) == Repeat(True, 1)
    assert _window((5, 0, SAME, 1)).find(NAME, 6 + W, 0, SAME) is None


def test_a_repeat_is_found_up_to_the_last_microsecond_of_the_window() -> None:
    """A record A seconds behind another one repeats it; a microsecond later it does not."""
    age = A * MICROSECONDS
    assert _window((5, 7, SAME, 1)).find(NAME, 6, 7 + age, SAME) == Repeat(True, 1)
    assert _window((5, 7, SAME, 1)).find(NAME, 6, 8 + age, SAME) is None


def test_broker_times_may_step_back() -> None:
    """A record received before the one it repeats still repeats it, and one that seemed too old comes back in reach."""
    age = A * MICROSECONDS
    window = _window((5, 10 * age, SAME, 1))
    assert window.find(NAME, 6, 12 * age, SAME) is None
    assert window.find(NAME, 7, 10 * age, SAME) == Repeat(True, 1)
    assert window.find(NAME, 8, 0, SAME) == Repeat(True, 1)


def test_equal_bytes_win_over_the_first_occurrence() -> None:
    """Among several with the same id the one with the same bytes counts; without one, the first."""
    window = _window((1, 0, SAME, 1), (2, 0, OTHER, 2), (3, 0, OTHER, 3))
    assert window.find(NAME, 4, 0, OTHER) == Repeat(True, 2)
    assert window.find(NAME, 4, 0, payload_digest(b"third")) == Repeat(False, 1)


def test_equal_bytes_win_although_another_generation_holds_the_first() -> None:
    """The order of look-ups goes by digest first, however old the others are."""
    window = _window((1, 0, SAME, 1), (W + 1, 0, OTHER, 2))
    assert window.find(NAME, W + 1, 0, OTHER) == Repeat(True, 2)


def test_tenants_do_not_share_ids() -> None:
    """One tenant's id is no repeat of another's."""
    assert _window((1, 0, SAME, 1)).find(name_of(b"other", b"id-1"), 2, 0, SAME) is None


def test_what_never_entered_the_chain_is_forgotten() -> None:
    """Records from a seq on can be taken back, in both generations and where one id has several."""
    window = _window((1, 0, SAME, 1), (2, 0, OTHER, 2))
    window.add(name_of(b"acme", b"id-2"), W + 2, 0, SAME, 3)
    window.forget(b"acme", 2)
    assert window.find(NAME, W + 1, 0, OTHER) == Repeat(False, 1)
    assert window.find(name_of(b"acme", b"id-2"), W + 3, 0, SAME) is None


@given(
    st.lists(
        st.tuples(
            st.integers(1, 30), st.integers(-A, 2 * A), st.sampled_from([b"a", b"b"]), st.sampled_from([SAME, OTHER])
        ),
        max_size=60,
    )
)
def test_it_equals_a_list_that_remembers_everything(steps: list[tuple[int, int, bytes, bytes]]) -> None:
    """Whatever comes, at whatever distances and times, the window answers as the definition does."""
    window, known = Window(W, A), list[tuple[int, int, bytes, bytes, int]]()
    offset, received = 0, 10**9
    for seq, (step, seconds, event_id, digest) in enumerate(steps, 1):
        offset, received = offset + step, received + seconds * MICROSECONDS
        earlier = [
            (then, at)
            for o, t, i, then, at in known
            if i == event_id and offset - o <= W and received - t <= A * MICROSECONDS
        ]
        equal = [at for then, at in earlier if then == digest]
        expected = Repeat(True, equal[0]) if equal else Repeat(False, earlier[0][1]) if earlier else None

        assert window.find(name_of(b"t", event_id), offset, received, digest) == expected

        if not equal:
            known.append((offset, received, event_id, digest, seq))
            window.add(name_of(b"t", event_id), offset, received, digest, seq)
