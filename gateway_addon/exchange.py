"""One call while it lasts: what the hooks learn of it, and `finish`, which turns that into its one true record."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway_addon import clients, cost, dialects
from gateway_addon.answer import AnswerFeed
from gateway_addon.api import errors
from gateway_addon.api.base import Answer, ApiKind, Json, Problem, RequestFacts
from gateway_addon.record import Content, Record
from gateway_addon.wire import jsontext

PRICES = cost.PriceTable()

MAX_PACE = 4096
"""Entries kept of when an answer's bytes came; beyond that every second one goes."""


@dataclass(slots=True, frozen=True)
class End:
    """How the transport ended, as far as it can be told without reading the answer.

    `outcome` is the one to record unless the answer itself says better: None after a clean end, else `client_aborted`,
    `upstream_cut`, `interrupted` or `rejected`.
    """

    outcome: str | None = None
    error_type: str | None = None
    error_message: str | None = None


CLEAN = End()


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Live state of one call. Times are seconds since the epoch, as mitmproxy's."""

    id: str
    run_id: str
    source: str
    kind: ApiKind
    started: float
    host: str | None
    """Where the request goes; None, like `path`, if the addon answers it itself."""
    path: str | None
    provider: str | None
    configured_dialect: str | None
    """The provider's; None where no provider is configured for the host."""
    request_headers: Mapping[str, str]
    """Names in lower case, the first value of each."""
    request_size: int | None
    body: Json | None
    """The request's; None if it is no JSON object, or unknown."""
    request_body: bytes | None = None
    """The same as the client sent it, content-decoded; None if it is unknown."""
    facts: RequestFacts = field(default_factory=RequestFacts)
    """Of the request as the client sent it."""
    upstream_model: str | None = None
    """The model named in the request as it was sent."""
    side_request: str | None = None
    """What the path says of it; else the request's facts tell."""
    rewrites: str = "[]"
    client_credential: str | None = None
    """The kind of the client's own credential in the request as it was sent (`redaction.credential_kind`)."""
    key_injected: bool = False
    """The gateway's own key pays, whatever login the client has."""
    client: clients.Client = field(init=False)
    warnings: list[str] = field(default_factory=list)
    http_status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    feed: AnswerFeed | None = None
    response_size: int = 0
    copy_limit: int
    """Bytes of the answer to keep for the flow; what is longer is still forwarded and read."""
    copy: list[bytes] = field(default_factory=list)
    copied: int = 0
    pace: list[tuple[float, int]] = field(default_factory=list)
    """When, and how many bytes of the answer had come by then: what a replay at the recorded pace needs."""
    first_byte: float | None = None
    first_token: float | None = None
    last_byte: float | None = None

    def __post_init__(self) -> None:
        self.client = clients.identify(self.request_headers, self.body, self.facts)

    def start_answer(self, http_status: int, headers: Mapping[str, str]) -> None:
        """The answer's head has arrived. `headers`: names in lower case."""
        self.http_status = http_status
        self.response_headers = headers
        self.feed = AnswerFeed(self.kind, self.facts, headers.get("content-type", ""), headers.get("content-encoding"))

    def receive(self, data: bytes, now: float) -> None:
        """Take a piece of the answer's body as it passes."""
        if not data or self.feed is None:
            return
        self.last_byte = now
        self.first_byte = self.first_byte or now
        self.response_size += len(data)
        if self.copied + len(data) <= self.copy_limit:
            self.copy.append(data)
            self.copied += len(data)
        else:
            # no gap may follow: what is kept is the beginning
            self.copy_limit = 0
            self.warn("response_truncated")
        self.pace.append((now, self.response_size))
        if len(self.pace) > MAX_PACE:
            del self.pace[:-1:2]
        self.feed.feed(data)
        if self.first_token is None and self.feed.answer.started:
            self.first_token = now

    def give_up(self) -> None:
        """Reading failed: stop it for this call, keep what was read and go on counting and copying."""
        self.warn("reader_failed")
        if self.feed:
            self.feed.stop("reader_failed")

    def warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def opening_record(exchange: Exchange) -> Record:
    """The row a call has from its start, before anything is known of its answer."""
    facts = exchange.facts
    client = exchange.client
    return Record(
        id=exchange.id,
        run_id=exchange.run_id,
        started_at=timestamp(exchange.started),
        source=exchange.source,
        api_kind=exchange.kind.NAME,
        provider=exchange.provider,
        upstream_host=exchange.host,
        upstream_path=exchange.path.partition("?")[0] if exchange.path else None,
        request_model=facts.model,
        upstream_model=exchange.upstream_model,
        max_tokens=facts.max_tokens,
        client=client.client,
        client_version=client.client_version,
        client_credential=exchange.client_credential,
        previous_id=facts.previous_id,
        session_id=client.session_id,
        conversation_id=client.conversation_id,
        agent_id=client.agent_id,
        parent_agent_id=client.parent_agent_id,
        side_request=exchange.side_request or facts.side_request or client.side_request,
        request_bytes=exchange.request_size,
        rewrites=exchange.rewrites,
    )


def finish(exchange: Exchange, end: End, now: float | None, *, may_load_prices: bool) -> tuple[Record, Content]:
    """The call's record and text. Called once per call, whatever happened; reads what is left of the answer.

    `now` is the time the call ended, None where it is not known (a flow file that does not tell).
    `may_load_prices`: whether the price table may be loaded on the spot, which takes a second.
    """
    feed = exchange.feed
    answer = feed.finish(exchange.http_status) if feed else Answer()
    if feed and feed.warning:
        exchange.warn(feed.warning)
    record = opening_record(exchange)
    record.outcome = _outcome(exchange, answer, end)
    record.http_status = exchange.http_status
    problem = answer.error
    if problem is None and record.outcome == end.outcome:
        problem = Problem(message=end.error_message, type=end.error_type)
    if problem:
        record.error_status = _error_status(problem, exchange.http_status)
        record.error_type = problem.type
        record.error_message = errors.bounded(problem.message) if problem.message else None
    headers = exchange.response_headers
    record.response_model = answer.model
    record.streamed = feed.streamed if feed else None
    record.finish_reason = answer.finish_reason
    record.finish_detail = answer.finish_detail
    record.response_id = answer.response_id or headers.get("x-generation-id")
    record.provider_request_id = headers.get("request-id") or headers.get("x-request-id")
    record.service_tier = answer.service_tier
    _count(record, answer)
    _charge(record, answer, exchange, may_load_prices=may_load_prices)
    if exchange.first_byte:
        record.time_to_first_byte_ms = milliseconds(exchange.started, exchange.first_byte)
    if exchange.first_token:
        record.time_to_first_token_ms = milliseconds(exchange.started, exchange.first_token)
    if now is not None:
        record.duration_ms = milliseconds(exchange.started, now)
    if exchange.request_body is not None:
        # here, although it takes 0.6 ms for 1 MB: the row keeps it when the body itself is not stored
        record.request_sha256 = hashlib.sha256(exchange.request_body).hexdigest()
    if feed:
        record.response_bytes = exchange.response_size
    record.warnings = json.dumps(exchange.warnings)
    content = Content(
        system_prompt=exchange.facts.system_prompt,
        user_prompt=exchange.facts.user_prompt,
        answer_text=answer.text or None,
        reasoning_text=answer.reasoning or None,
        tools=exchange.facts.tools,
        tool_calls=answer.tool_calls,
        tool_results=[*exchange.facts.tool_results, *answer.tool_results],
        body=exchange.request_body,
    )
    return record, content


def unread(exchange: Exchange, end: End) -> Record:
    """The record of a call whose answer could not be read because of a bug of ours: how it ended, and that."""
    exchange.warn("reader_failed")
    record = opening_record(exchange)
    record.outcome = end.outcome or "unreadable"
    record.http_status = exchange.http_status
    record.warnings = json.dumps(exchange.warnings)
    return record


def _outcome(exchange: Exchange, answer: Answer, end: End) -> str:
    """Design 2.4, column `outcome`: what the answer says beats how the connection ended."""
    if end.outcome == "rejected":
        return "rejected"
    if exchange.http_status is not None and exchange.http_status >= 400:
        return "http_error"
    if answer.recognised and answer.error:
        return "stream_error"
    if answer.ended:
        # clients hang up as soon as they have read the last event
        return "complete"
    if end.outcome:
        return end.outcome
    if exchange.feed and exchange.feed.streamed and exchange.feed.warning is None:
        # a close-delimited stream ends like this when the upstream goes away: only the kind's end is missing
        return "upstream_cut"
    return "unreadable"


def _error_status(problem: Problem, http_status: int | None) -> int | None:
    """The status an error names. One that only its type stands for gives way to an error status line."""
    if (http_status or 0) >= 400 and problem.status == errors.STATUS_OF_TYPE.get(problem.type or ""):
        return http_status
    return problem.status


def _count(record: Record, answer: Answer) -> None:
    usage = answer.usage
    record.input_tokens = usage.input_tokens
    record.cache_read_tokens = usage.cache_read_tokens
    record.cache_write_tokens = usage.cache_write_tokens
    record.cache_write_1h_tokens = usage.cache_write_1h_tokens
    record.output_tokens = usage.output_tokens
    record.reasoning_tokens = usage.reasoning_tokens
    reported = dict(answer.reported_usage or {})
    if answer.gateway:
        reported["gateway"] = answer.gateway
    if reported:
        record.usage = jsontext.dumps(reported)
    if usage.input_tokens is not None or usage.output_tokens is not None:
        record.usage_is_lower_bound = not answer.usage_final


def _charge(record: Record, answer: Answer, exchange: Exchange, *, may_load_prices: bool) -> None:
    dialect = dialects.detect(exchange.configured_dialect, answer, exchange.kind.VENDOR)
    bill = dialects.read_bill(answer, exchange.response_headers, dialect)
    if may_load_prices:
        PRICES.load()
    price = cost.price(
        answer,
        bill,
        model=answer.model or exchange.upstream_model,
        provider=exchange.provider,
        host=exchange.host,
        started_at=datetime.fromtimestamp(exchange.started, UTC),
        subscription=not exchange.key_injected
        and clients.is_subscription(exchange.request_headers, exchange.host or "", exchange.path or ""),
        table=PRICES,
    )
    record.dialect = dialect.NAME
    record.inference_provider = bill.inference_provider or answer.inference_provider
    record.response_model = bill.model or record.response_model
    record.cost_microdollars = price.cost_microdollars
    record.cost_source = price.cost_source
    record.charged_microdollars = price.charged_microdollars
    record.cache_miss_microdollars = price.cache_miss_microdollars
    record.is_byok = price.is_byok
    record.cost_flags = json.dumps(price.cost_flags)


def tools_called(content: Content) -> Counter[str]:
    """How often each tool was called in the answer, by name, in order of first call."""
    return Counter(call.name or "?" for call in content.tool_calls)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(start: float, end: float) -> float:
    """A duration, never negative though the clock may be set back."""
    return round(max(0.0, end - start) * 1000, 3)
