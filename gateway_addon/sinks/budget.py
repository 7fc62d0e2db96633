"""The sink that warns of sessions that become dear."""

import logging
from collections import Counter
from decimal import Decimal

from gateway_addon.content import Content
from gateway_addon.record import Record
from gateway_addon.sinks.console import dollars

logger = logging.getLogger(__name__)


class Budget:
    """One warning for each session whose calls come to more than `limit` USD; None: none at all.

    `limit` may be set anew at any time. Calls of unknown cost count nothing; those that name no session count together.
    """

    name = "the budget"

    def __init__(self, limit: Decimal | None = None) -> None:
        self.limit = limit
        self._microdollars: Counter[str | None] = Counter()
        self._warned: set[tuple[str | None, Decimal]] = set()

    def begin(self, record: Record) -> None:
        """What a call costs is known when it has ended."""

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        if record.cost_microdollars is None or record.is_served_again:
            return
        session = record.session_id
        self._microdollars[session] += record.cost_microdollars
        spent = self._microdollars[session]
        if self.limit is None or spent <= self.limit * 1_000_000 or (session, self.limit) in self._warned:
            return
        self._warned.add((session, self.limit))
        # sessions are named by strangers: what would move a terminal's cursor is shown as `?`
        named = "".join(c if c.isprintable() else "?" for c in session[:100]) if session else "without a name"
        logger.warning(
            "gateway-addon: session %s has cost %s, more than gateway_warn_usd=%s", named, dollars(spent), self.limit
        )

    def turn_away(self) -> None:
        """It costs nothing."""

    def close(self) -> bool:
        return True
