"""One call's answer, from its head to its end, and `finish`, which makes the call's one true record of it.

No I/O and no clock: times are handed in, in seconds since the call's start, by a clock that nobody sets.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway_addon import clients, cost, dialects
from gateway_addon.answer import AnswerFeed
from gateway_addon.api import errors
from gateway_addon.api.base import Answer
from gateway_addon.call import Call
from gateway_addon.content import Content
from gateway_addon.outcome import End, outcome_of, outcome_unread, problem_of
from gateway_addon.record import Record
from gateway_addon.terms import Warning
from gateway_addon.times import milliseconds
from gateway_addon.wire import digest
from gateway_addon.wire.headers import Headers

REQUEST_IDS = ("request-id", "x-request-id", "x-amzn-requestid")
"""Headers in which a provider names the request."""

MODIFIERS = {"x-amzn-bedrock-service-tier": "service_tier", "x-amzn-bedrock-performanceconfig-latency": "latency"}
"""Headers of an answer that name what changes its price: Bedrock's, whose bodies are those of the vendors."""


@dataclass(slots=True, eq=False)
class Reading:
    """The answer of a call while it comes."""

    call: Call
    warnings: list[Warning] = field(default_factory=list)
    http_status: int | None = None
    headers: Headers = field(default_factory=Headers)
    """The answer's, as received."""
    feed: AnswerFeed | None = None
    """None until the head has arrived."""
    size: int = 0
    """Bytes of the body, as received."""
    first_byte: float | None = None
    first_token: float | None = None
    last_byte: float | None = None

    def start(self, http_status: int, headers: Headers) -> None:
        """The answer's head has arrived."""
        self.http_status = http_status
        self.headers = headers
        passage = self.call.passage
        change = passage.change if passage.change and passage.change.concerns(http_status) else None
        self.feed = AnswerFeed(passage.kind, self.call.facts, http_status, headers, change)

    def receive(self, data: bytes, at: float) -> list[bytes] | None:
        """Take a piece of the body as it passes, `at` seconds into the call.

        Returns what the client gets in its place; None: the piece itself.
        """
        feed = self.feed
        if feed is None:
            return None
        self.last_byte = at
        if self.first_byte is None:
            self.first_byte = at
        self.size += len(data)
        changed = feed.feed(data)
        if self.first_token is None and feed.answer.started:
            self.first_token = at
        return changed if feed.is_changed else None

    def end(self) -> list[bytes] | None:
        """The body is complete. Returns what the client still gets; None: nothing but the end."""
        if self.feed is None:
            return None
        changed = self.feed.end()
        return changed if self.feed.is_changed else None

    @property
    def is_changed(self) -> bool:
        """Whether the client gets something else than what is received."""
        return self.feed is not None and self.feed.is_changed

    @property
    def is_withheld(self) -> bool:
        """Whether the client gets an error instead (`AnswerFeed.is_withheld`)."""
        return self.feed is not None and self.feed.is_withheld

    def give_up(self) -> list[bytes] | None:
        """Reading failed: stop it for this call, keep what was read and go on counting. Returns as `receive` does."""
        self.warn("reader_failed")
        if self.feed is None:
            return None
        self.feed.stop("reader_failed")
        return self.feed.passed_on() if self.feed.is_changed else None

    def warn(self, warning: Warning) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def opening_record(call: Call) -> Record:
    """The row a call has from its start, before anything is known of its answer."""
    facts, client, passage = call.facts, call.client, call.passage
    record = Record(
        id=call.id,
        run_id=call.run_id,
        started_at=call.started,
        source=call.source,
        api_kind=passage.kind.NAME,
        transport=passage.transport,
        streamed=True if passage.transport == "websocket" else None,
        request_model=facts.model,
        max_tokens=facts.max_tokens,
        client=client.client,
        client_version=client.client_version,
        previous_id=facts.previous_id,
        session_id=client.session_id,
        conversation_id=client.conversation_id,
        agent_id=client.agent_id,
        parent_agent_id=client.parent_agent_id,
        agent_name=client.agent_name,
        agent_type=client.agent_type,
        traceparent=call.request.headers.get("traceparent"),
        betas=clients.betas(call.request.headers),
        side_request=passage.side_request or facts.side_request or client.side_request,
        request_bytes=call.request.size,
        rewrites=passage.rewrites,
        warnings=(*passage.warnings, *call.request.warnings),
    )
    if there := passage.destination:
        record.provider = there.provider
        record.upstream_host = there.host
        record.upstream_path = there.path
        record.upstream_model = there.model
        record.client_credential = there.client_credential
    return record


def finish(reading: Reading, end: End, lasted: float | None, table: cost.PriceTable) -> tuple[Record, Content]:
    """The call's record and text. Called once per call, whatever happened; reads what is left of the answer.

    `lasted`: seconds from the call's start to its end, None where that is not known (a flow file that does not tell).
    """
    call, feed = reading.call, reading.feed
    answer = feed.finish() if feed else Answer()
    if feed and feed.warning:
        reading.warn(feed.warning)
    if reading.is_withheld:
        reading.warn("answer_withheld")
    for warning in answer.warnings:
        reading.warn(warning)
    record = opening_record(call)
    record.warnings = (*dict.fromkeys((*record.warnings, *reading.warnings)),)
    record.http_status = reading.http_status
    record.outcome = outcome_of(
        answer,
        end,
        http_status=reading.http_status,
        streamed=feed.streamed if feed else None,
        stopped=feed.warning if feed else None,
    )
    if problem := problem_of(answer, end, record.outcome, reading.http_status):
        record.error_status = problem.status
        record.error_type = problem.type
        record.error_message = errors.bounded(problem.message) if problem.message else None
    headers = reading.headers
    record.response_model = answer.model
    if feed and feed.streamed is not None:
        record.streamed = feed.streamed
    record.finish_reason = answer.finish_reason
    record.finish_detail = answer.finish_detail
    record.response_id = answer.response_id or headers.get("x-generation-id")
    record.provider_request_id = next((headers[name] for name in REQUEST_IDS if headers.get(name)), None)
    answer.price_context |= {name: headers[header] for header, name in MODIFIERS.items() if header in headers}
    record.service_tier = answer.price_context.get("service_tier", answer.service_tier)
    _count(record, answer)
    _charge(record, answer, reading, table)
    record.time_to_first_byte_ms = milliseconds(reading.first_byte)
    record.time_to_first_token_ms = milliseconds(reading.first_token)
    record.duration_ms = milliseconds(lasted)
    if call.request.body is not None:
        # here, and not with the body: the row keeps it when that is not stored
        record.request_sha256 = call.request.sha256 or digest.sha256_of(call.request.body)
    if feed:
        record.response_bytes = reading.size
    content = Content(
        system_prompt=call.facts.system_prompt,
        user_prompt=call.facts.user_prompt,
        answer_text=answer.text or None,
        reasoning_text=answer.reasoning or None,
        tools=call.facts.tools,
        tool_calls=answer.tool_calls,
        tool_results=[*call.facts.tool_results, *answer.tool_results],
        body=call.request.body,
        elements=call.request.elements,
    )
    return record, content


def unread(reading: Reading, end: End) -> Record:
    """The record of a call whose answer could not be read because of a bug of ours: how it ended, and that."""
    reading.warn("reader_failed")
    record = opening_record(reading.call)
    record.outcome = outcome_unread(end)
    record.http_status = reading.http_status
    record.warnings = (*record.warnings, *reading.warnings)
    return record


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
    record.usage = reported or None
    if usage.input_tokens is not None or usage.output_tokens is not None:
        record.usage_is_lower_bound = not answer.usage_final


def _charge(record: Record, answer: Answer, reading: Reading, table: cost.PriceTable) -> None:
    call, there = reading.call, reading.call.passage.destination
    dialect = dialects.detect(there.dialect if there else None, answer, call.passage.kind.VENDOR)
    bill = dialects.read_bill(answer, reading.headers, dialect)
    price = cost.price(
        answer,
        bill,
        model=cost.billed_model(answer.model, record.upstream_model, record.upstream_host),
        provider=record.provider,
        host=record.upstream_host,
        started_at=datetime.fromtimestamp(call.started, UTC),
        subscription=there is not None
        and there.payer == "client"
        and clients.is_subscription(call.request.headers, there.host, there.path),
        table=table,
    )
    record.dialect = dialect.NAME
    record.inference_provider = bill.inference_provider or answer.inference_provider
    record.response_model = bill.model or record.response_model
    record.cost_microdollars = price.cost_microdollars
    record.cost_source = price.cost_source
    record.charged_microdollars = price.charged_microdollars
    record.cache_miss_microdollars = price.cache_miss_microdollars
    record.is_byok = price.is_byok
    record.cost_flags = price.cost_flags
