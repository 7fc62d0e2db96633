"""What Datasette asks of its plugins, of which this is one."""

from typing import Any

from datasette import hookimpl
from markupsafe import Markup

from gateway_addon.page.cells import cell

INTERNAL = {"answered_tool_calls", "counted_requests", "readable_texts", "texts", "tool_results"}
"""Views that others are made of, and one that takes long, for which there are queries. (`hidden` in the metadata hides
tables only.)"""


def _render_cell(value: object, column: str) -> Markup | None:
    """The HTML of a value; None: as Datasette shows it."""
    html = cell(column, value)
    return None if html is None else Markup(html)


def _permission_allowed(action: str, resource: Any) -> bool | None:
    """What nobody may see is not offered."""
    return False if action == "view-table" and resource[1] in INTERNAL else None


render_cell = hookimpl(_render_cell)
permission_allowed = hookimpl(_permission_allowed)
