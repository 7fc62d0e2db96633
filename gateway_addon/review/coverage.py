"""What a review has looked at, and what it could not: "nothing found" never stands for "not looked"."""

from typing import NamedTuple

from gateway_addon.store import steps
from gateway_addon.store.database import Database
from gateway_addon.store.passages import Passages


class Coverage(NamedTuple):
    looked_at: str
    """In a few words."""
    missed: tuple[str, ...]
    """What was not looked at, each with its number; empty: nothing."""

    @property
    def line(self) -> str:
        """What the last line of a review says."""
        if not self.missed:
            return f"looked at {self.looked_at}"
        return f"looked at {self.looked_at}; not looked at: {'; '.join(self.missed)}"


def of(db: Database, passages: Passages) -> Coverage:
    stored = steps.unstored(db)
    missed = [
        f"texts of {_counted(stored[count], 'call')} {why}"
        for count, why in (
            ("prompts_only", "not stored: gateway_content=prompts"),
            ("numbers_only", "not stored: gateway_content=none"),
            ("dropped", "not stored: the writer had no time"),
            ("unread", "not readable"),
            ("cut", "not whole: answers cut off"),
        )
        if stored[count]
    ]
    missed += [f"{what} ({count})" for what, count in sorted(passages.unread.items())]
    calls = _counted(stored["calls"], "call")
    if passages.is_kept:
        return Coverage(f"{_counted(passages.count()['flows'], 'flow')}, {calls} among them", tuple(missed))
    # a database has no more of a flow
    return Coverage(
        f"the bodies and answers of {calls}", (*missed, "heads, queries and other flows: review the capture")
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
