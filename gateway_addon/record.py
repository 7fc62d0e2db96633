"""The true row of one call, as values: the one table of columns that database, flow metadata and console render."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from gateway_addon import times
from gateway_addon.api.base import Json, Operation
from gateway_addon.terms import CostFlag, CostSource, Outcome, SideRequest, Source, Transport, Warning
from gateway_addon.wire import jsontext


@dataclass(slots=True, kw_only=True)
class Record:
    """One row of `requests`: field names are column names, None is NULL. `as_row` makes text of lists and times.

    Times are seconds since the epoch, durations milliseconds, sizes bytes, money microdollars (int).
    """

    id: str
    run_id: str
    started_at: float
    source: Source
    api_kind: str
    transport: Transport = "http"
    outcome: Outcome = "in_flight"
    http_status: int | None = None
    error_status: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    provider: str | None = None
    dialect: str | None = None
    upstream_host: str | None = None
    upstream_path: str | None = None
    request_model: str | None = None
    upstream_model: str | None = None
    response_model: str | None = None
    streamed: bool | None = None
    finish_reason: str | None = None
    finish_detail: str | None = None
    response_id: str | None = None
    previous_id: str | None = None
    """What the request says of the history it leaves out: the `response_id` it follows, or a `conversation`."""
    provider_request_id: str | None = None
    inference_provider: str | None = None
    service_tier: str | None = None
    max_tokens: int | None = None
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """The part of the writes that lives for an hour; NULL where the provider does not tell."""
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage: Json | None = None
    """As reported, with the cost fields of a gateway; exact numbers, no text."""
    usage_is_lower_bound: bool | None = None
    cost_microdollars: int | None = None
    cost_source: CostSource | None = None
    charged_microdollars: int | None = None
    cache_miss_microdollars: int | None = None
    """What the call cost more than if its whole input had been read from the cache, by list price."""
    is_byok: bool | None = None
    cost_flags: tuple[CostFlag, ...] = ()
    client: str | None = None
    client_version: str | None = None
    client_credential: str | None = None
    """The kind of the client's own credential that went upstream: of `credentials.SHAPES`, else `credential`."""
    session_id: str | None = None
    conversation_id: str | None = None
    """Tells the conversations of one session and agent apart (`clients.Client`)."""
    agent_id: str | None = None
    parent_agent_id: str | None = None
    agent_name: str | None = None
    agent_type: str | None = None
    """What the client calls the agent that asks: its own name, and what kind of agent it is."""
    traceparent: str | None = None
    """W3C trace context, as the client's header has it."""
    betas: tuple[str, ...] | None = None
    """The names of the betas that the client's headers ask for; None where nobody has looked."""
    side_request: SideRequest | None = None
    time_to_first_byte_ms: float | None = None
    time_to_first_token_ms: float | None = None
    duration_ms: float | None = None
    request_bytes: int | None = None
    request_sha256: str | None = None
    """Of the content-decoded body, in hexadecimal."""
    response_bytes: int | None = None
    rewrites: tuple[Operation, ...] = ()
    """RFC 6902 over `{"url", "headers", "body"}`; see `gateway.patch.on_record`."""
    warnings: tuple[Warning, ...] = ()

    @property
    def is_served_again(self) -> bool:
        """Whether its answer came from a file and cost nothing. A call of client replay has a `~` in its id."""
        return self.source == "replay" and "~" not in self.id


COLUMNS = tuple(f.name for f in fields(Record))

TIMINGS = ("time_to_first_byte_ms", "time_to_first_token_ms", "duration_ms")
"""Columns that only a live run knows: reading the flow again later never overwrites them."""


def _json_list(values: Collection[str]) -> str:
    return json.dumps(list(values)) if values else "[]"


def _json_or_null(value: object) -> str | None:
    return jsontext.dumps(value) if value is not None else None


TEXTS: Mapping[str, tuple[Callable[[Any], str | None], Callable[[Any], Any]]] = {
    "started_at": (times.timestamp, times.seconds),
    "betas": (_json_or_null, lambda text: None if text is None else tuple(json.loads(text))),
    "usage": (_json_or_null, lambda text: jsontext.parse_object(text or "")),
    "cost_flags": (_json_list, lambda text: tuple(json.loads(text))),
    "rewrites": (jsontext.dumps, lambda text: tuple(jsontext.parse(text))),
    "warnings": (_json_list, lambda text: tuple(json.loads(text))),
}
"""The columns that are text in a row and something else in a record: how each is written, and read again."""


def as_row(record: Record) -> dict[str, Any]:
    """The record as a dict by column, in the order of `COLUMNS`, of what SQLite and a flow's metadata can hold."""
    row = {name: getattr(record, name) for name in COLUMNS}
    for name, (write, _) in TEXTS.items():
        row[name] = write(row[name])
    return row


def from_row(row: Mapping[str, Any]) -> Record:
    """The record that `as_row` made a row of; further columns are left out. Raises `ValueError` for no such row."""
    values = {name: row[name] for name in COLUMNS}
    return Record(**values | {name: read(values[name]) for name, (_, read) in TEXTS.items()})
