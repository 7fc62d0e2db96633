"""What Datasette asks of its plugins, of which this is one."""

from collections.abc import Callable
from typing import Any

from datasette import hookimpl
from datasette.utils.asgi import Response
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


STYLE = """
td { max-width: 50rem; }
.short { white-space: nowrap; }
/* what a column means stands in its menu, too */
dl.column-descriptions { columns: 4 16rem; max-height: 9rem; overflow: auto; }
dl.column-descriptions dd { font-size: smaller; }
/* the menu of a chart offers to send it to an editor elsewhere */
.vega-embed details { display: none; }
"""


def _register_routes() -> list[tuple[str, Callable[[], Response]]]:
    return [(r"^/-/gateway\.css$", lambda: Response(STYLE, content_type="text/css"))]


def _extra_css_urls() -> list[str]:
    return ["/-/gateway.css"]


register_routes = hookimpl(_register_routes)
extra_css_urls = hookimpl(_extra_css_urls)
render_cell = hookimpl(_render_cell)
permission_allowed = hookimpl(_permission_allowed)
