"""The loop: groups of bounded size, trying again, and what is done with calls that are refused."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from gateway_addon.otlp.export import (
    FIRST_PAUSE,
    LAST_PAUSE,
    MAX_CHARACTERS,
    MAX_PAUSE,
    MAX_SPANS,
    POLL_SECONDS,
    TRIES,
    Accepted,
    Export,
    RefusedError,
    Tally,
    Told,
    UnavailableError,
    groups,
)
from gateway_addon.otlp.spans import Context, Span

DOWN = UnavailableError("HTTP 503", passing=True)
FORBIDDEN = UnavailableError("HTTP 403", passing=False)


def told(sequence: int, spans: int = 1, size: int = 0) -> Told:
    made = [
        Span(name="chat m", kind="client", context=Context(1, sequence), parent=None, start=0, end=1, attributes={})
        for _ in range(spans)
    ]
    return Told(sequence, f"call-{sequence}", made, size)


class Calls:
    """A source of calls 1 to `count`."""

    def __init__(self, count: int) -> None:
        self.all = [told(number) for number in range(1, count + 1)]
        self.after = 0

    def calls(self) -> Iterator[Told]:
        return iter([call for call in self.all if call.sequence > self.after])

    def told(self, sequence: int) -> None:
        self.after = sequence


class Backend:
    """Does as `replies` say, one after the other, and then well."""

    def __init__(self, *replies: Exception | Accepted, poison: Iterable[int] = ()) -> None:
        self.taken: list[int] = []
        self._replies = list(replies)
        self._poison = set(poison)

    def __call__(self, spans: Iterable[Span]) -> Accepted:
        ids = [span.context.span_id for span in spans]
        reply = self._replies.pop(0) if self._replies else Accepted()
        if isinstance(reply, Exception):
            raise reply
        if self._poison.intersection(ids):
            raise RefusedError("HTTP 400")
        self.taken += ids
        return reply


class Run:
    """An export whose waits are written down; `during` is called in each, and says whether it is time to end."""

    def __init__(self, source: Calls, send: Backend, during: Callable[[int], bool] = lambda n: False, **more: Any):
        self.waits: list[float] = []
        self.said: list[str] = []

        def wait(seconds: float) -> bool:
            self.waits.append(seconds)
            return during(len(self.waits))

        self.export = Export(source=source, send=send, wait=wait, say=self.said.append, **more)

    def __call__(self) -> Tally:
        self.export.run()
        return self.export.tally


class TestGroups:
    def test_hold_so_many_spans_and_no_more(self):
        found = list(groups(told(number, spans=100) for number in range(12)))
        assert [len(group) for group in found] == [5, 5, 2]
        assert 5 * 100 <= MAX_SPANS < 6 * 100

    def test_hold_so_much_text_and_no_more(self):
        found = list(groups(told(number, size=MAX_CHARACTERS // 2) for number in range(3)))
        assert [len(group) for group in found] == [2, 1]

    def test_a_call_that_is_too_large_goes_by_itself(self):
        found = list(groups([told(1), told(2, size=2 * MAX_CHARACTERS), told(3)]))
        assert [[call.sequence for call in group] for group in found] == [[1], [2], [3]]

    def test_no_more_calls_are_taken_than_a_group_needs(self):
        taken = []

        def calls() -> Iterator[Told]:
            for number in range(100_000):
                taken.append(number)
                yield told(number, spans=64)

        next(groups(calls()))
        assert len(taken) == MAX_SPANS // 64 + 1


class TestOnce:
    def test_every_call_is_sent_and_noted(self):
        source, backend = Calls(3), Backend()
        assert Run(source, backend)() == Tally(calls=3, spans=3)
        assert (backend.taken, source.after) == ([1, 2, 3], 3)

    def test_a_backend_that_is_down_is_tried_again(self):
        source, backend = Calls(2), Backend(DOWN, DOWN)
        run = Run(source, backend)
        assert run() == Tally(calls=2, spans=2)
        assert run.waits == [FIRST_PAUSE, 2 * FIRST_PAUSE]
        assert run.said == ["HTTP 503, trying again", "going on"]

    def test_but_not_for_ever_and_nothing_is_noted(self):
        source = Calls(2)
        run = Run(source, Backend(*[DOWN] * TRIES))
        with pytest.raises(UnavailableError, match="503"):
            run()
        assert (len(run.waits), source.after) == (TRIES - 1, 0)

    def test_what_will_not_pass_is_not_tried_again(self):
        run = Run(Calls(1), Backend(FORBIDDEN))
        with pytest.raises(UnavailableError, match="403"):
            run()
        assert run.waits == []

    @pytest.mark.parametrize(("asked", "waited"), [(7.5, 7.5), (10 * MAX_PAUSE, MAX_PAUSE)])
    def test_a_backend_may_say_when_to_come_back(self, asked: float, waited: float):
        run = Run(Calls(1), Backend(UnavailableError("HTTP 429", passing=True, retry_after=asked)))
        run()
        assert run.waits == [waited]

    def test_spans_that_a_backend_drops_are_counted_and_not_sent_again(self):
        source, backend = Calls(3), Backend(Accepted(2, "too old"))
        run = Run(source, backend)
        assert run() == Tally(calls=3, spans=1, rejected=2)
        assert (source.after, run.said) == (3, ["2 spans rejected: too old"])

    def test_a_call_that_is_refused_does_not_hold_up_the_others(self):
        source, backend = Calls(9), Backend(poison=[4])
        run = Run(source, backend)
        assert run() == Tally(calls=8, spans=8, left_out=["call-4"])
        assert (sorted(backend.taken), source.after) == ([1, 2, 3, 5, 6, 7, 8, 9], 9)
        assert run.said == ["call call-4 is refused and left out"]

    def test_where_every_call_is_refused_none_is_given_up(self):
        source = Calls(4)
        with pytest.raises(UnavailableError, match="refuses every call"):
            Run(source, Backend(poison=range(9)))()
        assert source.after == 0


class TestFollowing:
    def test_calls_that_come_later_are_sent_and_at_the_end_the_last(self):
        source, backend = Calls(1), Backend()

        def during(waits: int) -> bool:
            source.all.append(told(waits + 1))
            return waits == 3

        run = Run(source, backend, during, follow=True)
        run()
        assert backend.taken == [1, 2, 3, 4]
        assert run.waits == [POLL_SECONDS] * 3

    def test_an_outage_is_waited_for_at_growing_distances_and_told_once(self):
        source, backend = Calls(1), Backend(*[FORBIDDEN] * 9)
        run = Run(source, backend, lambda waits: waits == 10, follow=True)
        run()
        assert backend.taken == [1]
        assert run.waits == [1, 2, 4, 8, 16, 32, LAST_PAUSE, LAST_PAUSE, LAST_PAUSE, POLL_SECONDS]
        assert run.said == ["HTTP 403, trying again", "going on"]

    def test_it_does_not_wait_for_a_backend_once_it_is_time_to_end(self):
        run = Run(Calls(1), Backend(DOWN, DOWN), lambda waits: True, follow=True)
        with pytest.raises(UnavailableError):
            run()
        assert len(run.waits) == 1

    def test_a_call_alone_that_is_refused_waits_for_another_to_tell_whose_fault_it_is(self):
        source, backend = Calls(1), Backend(poison=[1])

        def during(waits: int) -> bool:
            if waits == 2:
                source.all.append(told(2))
            return waits == 3

        tally = Run(source, backend, during, follow=True)()
        assert (backend.taken, tally.left_out) == ([2], ["call-1"])
