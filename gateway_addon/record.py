"""The true row of one call, as values: the one table of columns that database, flow metadata and console render."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from gateway_addon import api, times
from gateway_addon.api.base import Json, Operation, ToolCall, ToolResult
from gateway_addon.api.errors import is_known_type
from gateway_addon.terms import CostFlag, CostSource, Outcome, SideRequest, Source, Warning
from gateway_addon.wire import jsontext
from gateway_addon.wire.elements import Body


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
    traceparent: str | None = None
    """W3C trace context, as the client's header has it."""
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


@dataclass(slots=True)
class Content:
    """The text that goes with a record, each None where unknown or not to be stored (`gateway_content`)."""

    system_prompt: str | None = None
    user_prompt: str | None = None
    answer_text: str | None = None
    reasoning_text: str | None = None
    tools: list[str] = field(default_factory=list)
    """Names offered (names are not content: they are kept under `gateway_content=none` too)."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_results: list[ToolResult] = field(default_factory=list)
    body: bytes | None = None
    """The request's, content-decoded, as the client sent it."""
    elements: Body | None = field(default=None, repr=False, compare=False)
    """What was read of a body; it is good for `body` only if that is the very same object."""


def arguments_valid(call: ToolCall) -> bool | None:
    """Whether a call's arguments are JSON; None where they need not be, or are not known."""
    if call.arguments is None:
        return call.arguments_valid
    if any(call.type in kind.FREE_TEXT_CALLS for kind in api.KINDS.values()):
        return None
    try:
        json.loads(call.arguments)
    except (ValueError, RecursionError):
        return False
    return True


def without_text(content: Content) -> Content:
    """A copy with names, ids and signs only: everything a model or a person wrote is None."""
    return Content(
        tools=content.tools,
        tool_calls=[
            replace(call, arguments=None, arguments_valid=arguments_valid(call)) for call in content.tool_calls
        ],
        tool_results=[replace(result, content=None) for result in content.tool_results],
    )


def limited(record: Record, content: Content, mode: str) -> tuple[Record, Content]:
    """What the option `gateway_content` lets through to the disk: the one place that decides it.

    `full`: all. `prompts`: what the `prompts` view shows, and error texts. `none`, and any other word: numbers, names
    and hashes only. What was given is not changed.
    """
    if mode == "full":
        return record, content
    bare = without_text(content)
    if mode == "prompts":
        spoken = tuple(f"/body/{name}" for name in api.members())
        record = replace(record, rewrites=_without_values(record.rewrites, spoken))
        return record, replace(bare, system_prompt=content.system_prompt, user_prompt=content.user_prompt)
    return _without_words(replace(record, rewrites=_without_values(record.rewrites, ("",)))), bare


_NAME = re.compile(r"[\w.:/@+-]{1,128}", re.ASCII)
"""What may be the name or id of something, and is no sentence."""

_NAMED_UPSTREAM = (
    "response_model",
    "finish_reason",
    "finish_detail",
    "response_id",
    "provider_request_id",
    "inference_provider",
    "service_tier",
)
"""Columns that hold what the answer calls something."""


def _without_words(record: Record) -> Record:
    """A copy in which an upstream can say nothing but what it has to: counts, known types of errors, and names."""
    bare = replace(
        record,
        error_message=None,
        error_type=record.error_type if is_known_type(record.error_type) else None,
        usage=_numbers(record.usage),
    )
    for name in _NAMED_UPSTREAM:
        if not _NAME.fullmatch(getattr(record, name) or ""):
            setattr(bare, name, None)
    return bare


def _numbers(value: Any) -> Any:
    """What of a JSON value are numbers and signs, under names."""
    match value:
        case dict():
            members = {name: _numbers(member) for name, member in value.items() if _NAME.fullmatch(name)}
            return {name: member for name, member in members.items() if member is not None} or None
        case list():
            return [member for member in map(_numbers, value) if member is not None] or None
        case str():
            return None
    return value


def _without_values(rewrites: tuple[Operation, ...], places: tuple[str, ...]) -> tuple[Operation, ...]:
    """The operations, those on `places` (beginnings of JSON pointers) without their values."""
    return tuple(
        {name: part for name, part in operation.items() if name != "value"}
        if str(operation.get("path")).startswith(places)
        else operation
        for operation in rewrites
    )


def _json_list(values: Collection[str]) -> str:
    return json.dumps(list(values))


def _json_or_null(value: object) -> str | None:
    return jsontext.dumps(value) if value is not None else None


TEXTS: Mapping[str, tuple[Callable[[Any], str | None], Callable[[Any], Any]]] = {
    "started_at": (times.timestamp, times.seconds),
    "usage": (_json_or_null, lambda text: jsontext.parse_object(text or "")),
    "cost_flags": (_json_list, lambda text: tuple(json.loads(text))),
    "rewrites": (jsontext.dumps, lambda text: tuple(jsontext.parse(text))),
    "warnings": (_json_list, lambda text: tuple(json.loads(text))),
}
"""The columns that are text in a row and something else in a record: how each is written, and read again."""


def as_row(record: Record) -> dict[str, Any]:
    """The record as a dict by column, in the order of `COLUMNS`, of what SQLite and a flow's metadata can hold."""
    row = {name: getattr(record, name) for name in COLUMNS}
    return row | {name: write(row[name]) for name, (write, _) in TEXTS.items()}


def from_row(row: Mapping[str, Any]) -> Record:
    """The record that `as_row` made a row of; further columns are left out. Raises `ValueError` for no such row."""
    values = {name: row[name] for name in COLUMNS}
    return Record(**values | {name: read(values[name]) for name, (_, read) in TEXTS.items()})
