"""How a value reads in a table of the page: money in dollars, ids as links, long texts folded, nothing as markup."""

import re
import urllib.parse
from html import escape

from datasette.utils import tilde_encode

from gateway_addon.sinks.console import dollars
from gateway_addon.wire.text import UNKNOWN, printable

LONG, SHOWN = 600, 200
"""Characters of a text that is folded, and those of it that are shown."""

SHORT = 40
"""Characters of a name that stays on one line."""

CONVERSATIONS = ("request_id", "previous_request_id", "result_request_id", "session_id")
"""Columns of ids that lead to what was said there."""


_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)[.\d]*Z", re.ASCII)
_SPACE = re.compile(r"\s")
_UUID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f-]{22,}")


def cell(column: str, value: object) -> str | None:
    """A value as HTML; None: as Datasette shows it."""
    match value:
        case None:
            return UNKNOWN
        case int() if column.endswith("_microdollars"):
            return f'<span title="{value} millionths">{dollars(value)}</span>'
        case float() if column == "usd":
            return dollars(round(value * 1_000_000))
        case int() if column.endswith(("_tokens", "_bytes")):
            return f"{value:,}"
        case str() if column == "all_columns":
            return f'<a href="/gateway/requests/{tilde_encode(value)}">all columns</a>'
        case str() if column in CONVERSATIONS:
            title = f'class="short" title="{escape(printable(value))}"'
            return f'<a {title} href="/gateway/conversation?id={_quoted(value)}">{_text(_short(value))}</a>'
        case str() if column.endswith("_at") and (time := _TIME.fullmatch(value)):
            return f'<span class="short" title="{value}">{time[1]} {time[2]}</span>'
        case str() if len(value) > LONG:
            beginning, left = _text(value[:SHOWN]), len(value) - SHOWN
            return f"<details><summary>{beginning} … {left:,} more characters</summary>{_text(value)}</details>"
        case str() if len(value) <= SHORT and not _SPACE.search(value):
            return f'<span class="short">{_text(value)}</span>'
        case str():
            return _text(value)
    return None


def _text(value: str) -> str:
    return escape(printable(value))


def _short(value: str) -> str:
    """An id as long as one needs to tell it from others."""
    return _UUID.sub(r"\1", value)


def _quoted(value: str) -> str:
    return urllib.parse.quote(value, safe="")
