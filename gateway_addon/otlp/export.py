"""The loop that tells an endpoint of finished calls: every one at least once, in order, a bounded number in memory.

What has been accepted is remembered after that, so whatever ends this in between, calls are sent again rather than
lost; their spans have the same ids then. An endpoint that cannot be had is waited for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway_addon.otlp.spans import Span

MAX_SPANS = 512
MAX_CHARACTERS = 4_000_000
"""What is sent at once, but for a single call that has more."""

POLL_SECONDS = 1.0
"""How often it is looked whether calls have ended."""

FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
"""Seconds between two tries: doubled each time."""

TRIES = 6
"""Of an export that does not follow."""

MAX_PAUSE = 3600.0
"""Seconds that a backend may ask us to stay away."""


MAX_MESSAGE = 200
"""Characters that are shown of what a backend says."""


class RefusedError(Exception):
    """The backend does not want what it was sent, and will not tomorrow."""


class UnavailableError(Exception):
    """The backend could not be had, or its settings are wrong. The message is short and without secrets."""

    def __init__(self, message: str, *, passing: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        """It may work in a moment."""
        self.retry_after = retry_after
        """Seconds."""


@dataclass(slots=True, frozen=True)
class Accepted:
    """What a backend says of spans that it took."""

    rejected: int = 0
    message: str = ""


@dataclass(slots=True, frozen=True)
class Told:
    """A call with its spans."""

    sequence: int
    id: str
    spans: Sequence[Span]
    size: int
    """Characters of text in it."""


@dataclass(slots=True)
class Tally:
    """What became of it all."""

    calls: int = 0
    spans: int = 0
    rejected: int = 0
    """Spans that the backend dropped."""
    left_out: list[str] = field(default_factory=list)
    """Ids of calls that it refused."""


class Source(Protocol):
    """Where calls come from, and where it is remembered which have been told."""

    def calls(self) -> Iterator[Told]:
        """Those that have not been told, in order."""

    def told(self, sequence: int) -> None:
        """All up to this one have been."""


@dataclass(slots=True, kw_only=True)
class Export:
    """An export of a source. `send` is `send.Sender`, `wait` sleeps so many seconds, and returns True, at once, when it
    is time to end; `say` is given lines for a person, `advance` the number of calls that were told."""

    source: Source
    send: Callable[[Iterable[Span]], Accepted]
    wait: Callable[[float], bool]
    say: Callable[[str], None]
    advance: Callable[[int], object] = lambda calls: None
    follow: bool = False
    tally: Tally = field(default_factory=Tally)

    def run(self) -> None:
        """Tell of all calls there are, and with `follow` of those that come until it is time to end.

        Raises `UnavailableError` where it is no use to try any longer.
        """
        tries, pause, ending = 0, FIRST_PAUSE, False
        while True:
            try:
                # from where it stopped, with the calls that have ended since
                for group in groups(self.source.calls()):
                    self._tell(group)
                    if tries:
                        self.say("going on")
                    tries, pause = 0, FIRST_PAUSE
            except UnavailableError as trouble:
                tries += 1
                if ending or not (self.follow or (trouble.passing and tries < TRIES)):
                    raise
                if tries == 1:
                    self.say(f"{trouble}, trying again")
                ending = self.wait(min(trouble.retry_after or pause, MAX_PAUSE))
                pause = min(2 * pause, LAST_PAUSE)
            else:
                if ending or not self.follow:
                    return
                # if so, once more, for the last calls
                ending = self.wait(POLL_SECONDS)

    def _tell(self, group: Sequence[Told]) -> None:
        """Send a group, and note that. A call that is refused while others are not is left out."""
        done = Tally()
        refused = self._deliver(group, done)
        if len(refused) == len(group):
            # more likely the endpoint is wrong: nothing is given up for that
            raise UnavailableError("it refuses every call", passing=False)
        self.source.told(group[-1].sequence)
        self.advance(len(group))
        self.tally.calls += done.calls
        self.tally.spans += done.spans
        self.tally.rejected += done.rejected
        for call in refused:
            self.tally.left_out.append(call.id)
            self.say(f"call {call.id} is refused and left out")

    def _deliver(self, group: Sequence[Told], done: Tally) -> list[Told]:
        """Send a group, in ever smaller parts where it is refused. Returns the calls that are refused by themselves."""
        spans = [span for call in group for span in call.spans]
        try:
            accepted = self.send(spans)
        except RefusedError:
            if len(group) == 1:
                return list(group)
            half = len(group) // 2
            return self._deliver(group[:half], done) + self._deliver(group[half:], done)
        done.calls += len(group)
        done.spans += len(spans) - accepted.rejected
        done.rejected += accepted.rejected
        if accepted.rejected or accepted.message:
            self.say(f"{accepted.rejected} spans rejected: {accepted.message[:MAX_MESSAGE]}")
        return []


def groups(calls: Iterable[Told]) -> Iterator[list[Told]]:
    """The calls in groups of what is sent at once."""
    group: list[Told] = []
    spans = size = 0
    for call in calls:
        if group and (spans + len(call.spans) > MAX_SPANS or size + call.size > MAX_CHARACTERS):
            yield group
            group, spans, size = [], 0, 0
        group.append(call)
        spans += len(call.spans)
        size += call.size
    if group:
        yield group
