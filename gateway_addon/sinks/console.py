"""What a person reads of a call: the line on the console, the flow's comment, and the totals at the end."""

import logging
from collections import Counter
from collections.abc import Iterator

from gateway_addon import terms
from gateway_addon.content import Content
from gateway_addon.record import Record

logger = logging.getLogger(__name__)

ALERT = logging.INFO + 1
"""mitmproxy's level for what its user should see: `termlog_verbosity=alert` shows that, and none of its own lines."""


class Console:
    """A line in mitmproxy's log for each call that ends, and the totals when the proxy does."""

    name = "the console"

    def __init__(self) -> None:
        self._totals = Totals()

    def begin(self, record: Record) -> None:
        """Nothing is said of a call until it ends."""

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        self._totals.add(record)
        logger.log(ALERT, line(record, tools_called(content)))

    def so_far(self) -> str:
        """The totals of the calls that have ended, on one line."""
        return self._totals.line()

    def turn_away(self) -> None:
        self._totals.turned_away += 1

    def close(self) -> bool:
        if self._totals.calls or self._totals.turned_away:
            logger.log(ALERT, "gateway-addon: %s", self._totals.line())
        return True


def tools_called(content: Content) -> Counter[str]:
    """How often each tool was called in the answer, by name, in order of first call."""
    return Counter(call.name or "?" for call in content.tool_calls)


def line(record: Record, tools: Counter[str]) -> str:
    """One line for a finished call. Unknown counts and costs are left out or named so, never shown as 0.

    Models, tools and error types are named by strangers: what would move a terminal's cursor is shown as `?`.
    """
    return _harmless(" · ".join(_parts(record, tools)))


MAX_COMMENT = 80
"""Characters of a comment."""


def comment(record: Record, tools: Counter[str]) -> str:
    """A finished call in a flow's comment, which stands in a column of some 20 characters beside method and path: what
    is wrong first, then money, tokens, tools and the model, for whoever looks for them."""
    parts = [
        _trouble(record) if record.outcome != "complete" else "",
        dollars(record.cost_microdollars),
        _counts(record, "{}→{}"),
        _called(tools),
        record.request_model or record.response_model or "",
        record.side_request or "",
    ]
    text = _harmless(" · ".join(filter(None, parts)))
    return text if len(text) <= MAX_COMMENT else text[: MAX_COMMENT - 1] + "…"


def _harmless(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _counts(record: Record, form: str) -> str:
    """Input and output, `?` for one that is not known; "" if neither is."""
    counts = record.input_tokens, record.output_tokens
    least = "≥" if record.usage_is_lower_bound else ""
    words = [least + tokens(count) if count is not None else "?" for count in counts]
    return "" if counts == (None, None) else form.format(*words)


def _called(tools: Counter[str]) -> str:
    return ", ".join(name if n == 1 else f"{name} ×{n}" for name, n in tools.items())


def _parts(record: Record, tools: Counter[str]) -> Iterator[str]:
    yield f"{record.api_kind} {record.request_model or record.response_model or '?'}"
    if record.outcome != "complete":
        yield _trouble(record)
    cached = f" (cached {tokens(record.cache_read_tokens)})" if record.cache_read_tokens else ""
    if counts := _counts(record, "in {}" + cached + " out {}"):
        yield counts
    why = terms.why_unknown(record.cost_flags) if record.cost_microdollars is None else None
    yield dollars(record.cost_microdollars) + (f" ({why})" if why else "")
    if tools:
        yield _called(tools)
    if record.side_request:
        yield record.side_request
    if record.duration_ms is not None:
        yield f"{record.duration_ms / 1000:.1f} s"


def _trouble(record: Record) -> str:
    status = {"stream_error": record.error_status, "http_error": record.http_status}.get(record.outcome)
    return " ".join(str(word) for word in (record.outcome, status, record.error_type) if word)


def tokens(count: int | None) -> str:
    """A token count, short: 950, 12.3k, 1.2M; `?` if unknown."""
    if count is None:
        return "?"
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def dollars(microdollars: int | None) -> str:
    """A cost in USD, to a hundredth of a cent, or as small as it is; `$?` if unknown."""
    if microdollars is None:
        return "$?"
    digits = 4 if microdollars == 0 or microdollars >= 100 else 6
    return f"${microdollars / 1_000_000:.{digits}f}"


SUMS = ("input_tokens", "cache_read_tokens", "output_tokens", "cost_microdollars")
"""The columns that the totals sum up."""


class Totals:
    """Sums over the calls of a run."""

    def __init__(self) -> None:
        self.calls = 0
        self.turned_away = 0
        self._errors = 0
        self._without_cost: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        """By column; without the columns that no call had a value for: their sum is unknown."""

    def add(self, record: Record) -> None:
        self.calls += 1
        self._errors += record.outcome != "complete"
        if record.cost_microdollars is None and record.outcome != "rejected":  # which went nowhere
            self._without_cost[terms.why_unknown(record.cost_flags) or "reason unknown"] += 1
        for column in SUMS:
            if (value := getattr(record, column)) is not None:
                self._sums[column] += value

    def line(self) -> str:
        given, cached, made, cost = map(self._sums.get, SUMS)
        costs = [] if cost is None else [dollars(cost)]
        if self._without_cost:
            reasons = ", ".join(f"{number} {why}" for why, number in self._without_cost.most_common())
            costs.append(f"{self._without_cost.total()} of unknown cost ({reasons})")
        parts = (
            f"{self.calls} calls, {self._errors} not complete",
            f"in {tokens(given)} (cached {tokens(cached)}) out {tokens(made)}",
            " + ".join(costs),
            f"{self.turned_away} more refused without a row" if self.turned_away else "",
        )
        return " · ".join(filter(None, parts))
