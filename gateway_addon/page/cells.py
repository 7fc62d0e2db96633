"""How a value reads in a table of the page: money in dollars, ids as links, long texts folded, nothing as markup."""

import urllib.parse
from html import escape

from gateway_addon.sinks.console import dollars
from gateway_addon.wire.text import UNKNOWN, printable

LONG, SHOWN = 600, 200
"""Characters of a text that is folded, and those of it that are shown."""

CONVERSATIONS = ("request_id", "previous_request_id", "result_request_id", "session_id")
"""Columns of ids that lead to what was said there."""


def cell(column: str, value: object) -> str | None:
    """A value as HTML; None: as Datasette shows it."""
    match value:
        case None:
            return UNKNOWN
        case int() if column.endswith("_microdollars"):
            return f'<span title="{value} millionths">{dollars(value)}</span>'
        case int() if column.endswith(("_tokens", "_bytes")):
            return f"{value:,}"
        case str() if column == "all_columns":
            return f'<a href="/gateway/requests/{_quoted(value)}">all columns</a>'
        case str() if column in CONVERSATIONS:
            return f'<a href="/gateway/conversation?id={_quoted(value)}">{_text(value)}</a>'
        case str() if len(value) > LONG:
            beginning, left = _text(value[:SHOWN]), len(value) - SHOWN
            return f"<details><summary>{beginning} … {left:,} more characters</summary>{_text(value)}</details>"
        case str():
            return _text(value)
    return None


def _text(value: str) -> str:
    return f'<span class="text">{escape(printable(value))}</span>'


def _quoted(value: str) -> str:
    return urllib.parse.quote(value, safe="")
