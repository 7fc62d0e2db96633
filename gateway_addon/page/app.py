"""Datasette around a database: read-only, and told what is in it."""

import asyncio
import socket
from collections.abc import Callable
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import uvicorn
from datasette.app import Datasette
from datasette.database import Database
from datasette.plugins import pm
from datasette.utils import parse_metadata

from gateway_addon.page import plugin
from gateway_addon.page.guard import guarded

NAME = "gateway"
"""What the database is called in addresses and metadata, whatever its file is."""

SETTINGS = {
    # looks through whole tables for what to suggest: seconds, where there are 100,000 calls
    "suggest_facets": False,
    "allow_download": False,
    # rows are written while somebody looks
    "default_cache_ttl": 0,
    # of a chart: five years of days, with as many models
    "max_returned_rows": 10_000,
    # none takes a second where there are 100,000 calls, unless the machine has other things to do
    "sql_time_limit_ms": 5000,
    "facet_time_limit_ms": 1000,
}

CHOSEN = (
    "[[ AND started_at >= :since ]] [[ AND started_at < date(:until, '+1 day') ]] [[ AND client = :client ]]"
    # the hours of years would be more than can be shown
    " AND (:per <> 'hour' OR started_at >= date((SELECT MAX(started_at) FROM requests), '-6 days'))"
)
PERIOD = "substr(started_at, 1, CASE :per WHEN 'hour' THEN 13 WHEN 'month' THEN 7 ELSE 10 END)"


def metadata(search: str) -> dict[str, Any]:
    """What Datasette is told. `search` is the SQL that finds `:words`."""
    text = resources.files("gateway_addon.page").joinpath("metadata.yaml").read_text()
    pieces = {"{search}": search, "{chosen}": CHOSEN, "{period}": PERIOD}

    def filled(value: Any) -> Any:
        match value:
            case dict():
                return {name: filled(member) for name, member in value.items()}
            case list():
                return [filled(element) for element in value]
            case str():
                for name, piece in pieces.items():
                    value = value.replace(name, piece)
        return value

    told: dict[str, Any] = filled(parse_metadata(text))
    return told


def application(path: Path, search: str) -> Datasette:
    """Datasette for the database at `path`."""
    # it would print a whole traceback, with what stands in the rows, for every query that is wrong
    import_module("datasette.handle_exception").rich = None  # type: ignore[attr-defined]
    if not pm.is_registered(plugin):
        pm.register(plugin)
    site = Datasette([], metadata=metadata(search), settings=SETTINGS, memory=False)
    site.remove_database("_memory")
    site.add_database(Database(site, path=str(path), is_mutable=True), name=NAME)
    return site


def serve(path: Path, search: str, port: int, told: Callable[[str], None]) -> None:
    """Serve the page of a database on 127.0.0.1 until SIGINT or SIGTERM. `told` gets its address once it is there.

    Raises `OSError` where the port cannot be had.
    """
    with socket.create_server(("127.0.0.1", port)) as listener:
        port = listener.getsockname()[1]
        site = application(path, search)
        # whoever asks is who is connected, whatever a header says
        config = uvicorn.Config(
            guarded(site.app(), port), proxy_headers=False, log_level="error", access_log=False, lifespan="on"
        )
        told(f"http://127.0.0.1:{port}")
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
