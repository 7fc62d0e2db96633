"""Every scenario by name: what is answered, and how it is delivered.

README.md holds the list that `python -m tests.provider --list` prints.
"""

from dataclasses import dataclass, field, replace

from tests.provider import delivery as d
from tests.provider import messages, oddities, responses, story
from tests.provider.answer import Answer, Error, Json, ToolCall, Usage
from tests.provider.delivery import Delivery, Reply
from tests.provider.replies import Call, Replier, fails, literal, says, starts_over


@dataclass(frozen=True)
class Scenario:
    description: str
    reply: Replier
    delivery: Delivery = field(default_factory=Delivery)


PLAIN = Answer(text="Four tests pass, one fails: the last page is counted twice.")
LONG = replace(PLAIN, reasoning="The page count is off by one.", text=f"{PLAIN.text} Next I look at the pager. " * 4)
PARALLEL = Answer(
    text="Two files matter here.",
    tool_calls=(
        ToolCall("read_file", '{"path": "pages/pager.py", "lines": [1, 80]}'),
        ToolCall("search", '{"pattern": "page_count", "glob": "**/*.py"}'),
    ),
    finish="tool_calls",
)
TRUNCATED = Answer(
    text="I will write the new pager.",
    tool_calls=(ToolCall("write_file", '{"path": "pages/pager.py", "text": "def pages(items, siz'),),
    finish="length",
)

OVERLOADED = Error(status=529, type="overloaded_error", message="Too many calls at the moment, try again later.")
NO_CREDIT = Error(
    status=402, type="insufficient_credits", message="This account has no credit left.", vendor="openrouter"
)
BACKEND_LOST = Error(status=502, type="server_error", message="The back end went away.", vendor="openrouter")

HTTP_ERRORS = (
    Error(status=400, type="invalid_request_error", message="`temperature` must be between 0 and 2."),
    Error(status=401, type="authentication_error", message="This key is not known."),
    Error(status=429, type="rate_limit_error", message="Over the limit of calls per minute."),
    Error(status=500, type="api_error", message="Something broke on our side."),
    OVERLOADED,
)


def _openrouter(cost: object, is_byok: bool | None, upstream: float | None) -> Replier:
    billing: Json = {"cost": cost, "cost_details": {"upstream_inference_cost": upstream}}
    if is_byok is not None:
        billing["is_byok"] = is_byok
    return says(replace(PLAIN, billing=billing, inference_provider="Toy Inference"))


def _vercel(cost: str, market_cost: str, credential: str) -> Replier:
    attempts = [
        {"provider": "toy-one", "credentialType": "system", "success": False, "statusCode": 529},
        {"provider": "toy-two", "credentialType": credential, "success": True},
    ]
    routing = {
        "originalModelId": "toy/asked",
        "resolvedProvider": "toy-one",
        "finalProvider": "toy-two",
        "modelAttempts": [{"canonicalSlug": "toy/served", "success": True, "providerAttempts": attempts}],
    }
    gateway = {"routing": routing, "cost": cost, "marketCost": market_cost, "generationId": "gen_toy"}
    return says(replace(PLAIN, gateway=gateway))


def _strict(call: Call) -> Reply:
    key = messages.refused_key(call.body) if call.kind.NAME == messages.NAME else None
    if key is None:
        return says(PLAIN)(call)
    error = Error(status=400, type="invalid_request_error", message=f"{key}: Extra inputs are not permitted")
    return fails(error)(call)


def _http_errors() -> dict[str, Scenario]:
    own = {
        f"http-{e.status}": Scenario(f"status {e.status} in the shape of the kind's own vendor", fails(e))
        for e in HTTP_ERRORS
    }
    gateways = {
        f"{vendor}-http-{e.status}": Scenario(
            f"status {e.status} in the shape of {vendor} (Messages has one shape only)",
            fails(replace(e, vendor=vendor)),
        )
        for vendor in ("openrouter", "vercel", "vllm", "fastapi")
        for e in HTTP_ERRORS
    }
    return own | gateways


LABELS = {"json": "application/json", "text": "text/plain", "stream": "text/event-stream", "": ""}

HTML_PAGE = b"<!doctype html><title>502</title><h1>Bad gateway</h1><p>The server behind this page did not answer.</p>"

SCENARIOS: dict[str, Scenario] = {
    # What the model does
    "text": Scenario("plain text", says(PLAIN)),
    "reasoning": Scenario("reasoning, then text", says(replace(LONG, usage=Usage(input=90, output=60, reasoning=20)))),
    "tools": Scenario("text and two parallel tool calls whose deltas are interleaved", says(PARALLEL)),
    "tool-without-arguments": Scenario(
        "a tool call without arguments", says(Answer(tool_calls=(ToolCall("run_tests"),), finish="tool_calls"))
    ),
    "tool-cut-off": Scenario("a tool call whose arguments end where the tokens ran out", says(TRUNCATED)),
    "refusal": Scenario(
        "the model declines", says(Answer(refusal="I will not help to break into that.", finish="content_filter"))
    ),
    "cached": Scenario(
        "cache reads and writes",
        says(replace(PLAIN, usage=Usage(input=41200, cache_read=40000, cache_write=1000, output=30))),
    ),
    "agent": Scenario("hunts a bug with the tools offered, decided from the history", says(story.next_answer)),
    "agent-openrouter": Scenario("the same, with OpenRouter's cost fields", says(story.with_openrouter_cost)),
    "queued": Scenario("accepted for the background (Responses only)", says(Answer(finish="queued"))),
    "incomplete": Scenario("text cut off by the token limit", says(replace(LONG, finish="length"))),
    "starts-over": Scenario(
        "a stream in which a second answer starts half way through the first", starts_over(PARALLEL, PLAIN)
    ),
    "unicode": Scenario(
        "text of several bytes a character, with U+2028, U+0085 and a NUL escape",
        says(Answer(text="naïve → 漢字 🚀 line\u2028separator next\u0085line nul\x00 end")),
    ),
    "strict": Scenario("Messages: 400 for a top-level key that the native API does not know; else plain text", _strict),
    # Usage and cost
    "usage-absent": Scenario("no usage at all", says(replace(PLAIN, usage="absent"))),
    "usage-null": Scenario("`usage: null`", says(replace(PLAIN, usage="null"))),
    "openrouter-cost": Scenario("OpenRouter's cost, not BYOK", _openrouter(0.0123, False, 0.0123)),
    "openrouter-byok": Scenario("BYOK with a fee of 5 %", _openrouter(0.0005, True, 0.01)),
    "openrouter-byok-fee-waived": Scenario("BYOK, no fee", _openrouter(0, True, 0.01)),
    "openrouter-byok-unknown": Scenario("a cost without `is_byok`", _openrouter(0.01, None, None)),
    "openrouter-byok-mismatch": Scenario("BYOK whose fee is not 5 %", _openrouter(0.01, True, 0.01)),
    "openrouter-byok-no-upstream": Scenario("BYOK without an upstream price", _openrouter(0.0005, True, None)),
    "openrouter-cost-invalid": Scenario("a negative cost", _openrouter(-1, False, None)),
    "openrouter-cost-implausible": Scenario("a cost of a billion dollars", _openrouter(1e9, False, None)),
    "vercel": Scenario("Vercel's metadata with its own credentials", _vercel("0.0123", "0.0123", "system")),
    "vercel-byok": Scenario("Vercel's metadata, BYOK: nothing charged", _vercel("0", "0.0123", "byok")),
    # Errors inside a 200
    "error-first": Scenario(
        "keep-alive comments, then an error as the only data",
        says(replace(PLAIN, keep_alives=12, error=NO_CREDIT)),
    ),
    "error-midway": Scenario(
        "an error after some text", says(replace(LONG, error=replace(OVERLOADED, place="middle")))
    ),
    "error-as-finish": Scenario(
        "the answer ends as failed: choice error, `response.failed`, error event",
        says(replace(LONG, error=replace(BACKEND_LOST, place="finish"), usage="null")),
    ),
    "error-after-finish": Scenario(
        "an error behind the finish, with usage",
        says(replace(LONG, finish="length", error=replace(BACKEND_LOST, place="after-finish"))),
    ),
    "error-body": Scenario(
        "status 200 and an error object, even if a stream was asked for",
        says(replace(PLAIN, error=NO_CREDIT), streamed=False),
    ),
    # What single vendors do otherwise
    "cost-apart": Scenario(
        "OpenCode Zen: the cost in a frame, a `ping` or a member of its own",
        says(PLAIN),
        Delivery(edit=oddities.cost_apart),
    ),
    "usage-in-choice": Scenario(
        "Moonshot: the usage of a stream in its last choice", says(PLAIN), Delivery(edit=oddities.usage_in_choice)
    ),
    "one-index": Scenario(
        "Gemini's compatible API: parallel calls that are all number 0",
        says(PARALLEL),
        Delivery(edit=oddities.one_index),
    ),
    "response-done": Scenario(
        "a stream of Responses that ends with `response.done`", says(PLAIN), Delivery(edit=oddities.response_done)
    ),
    "run-by-the-server": Scenario(
        "Responses and Messages: a tool that the server ran, and its result",
        says(PLAIN),
        Delivery(edit=oddities.run_by_the_server),
    ),
    "error-in-a-list": Scenario(
        "Google: an error in a list, after keep-alive comments",
        says(replace(PLAIN, keep_alives=2, error=OVERLOADED)),
        Delivery(edit=oddities.in_a_list),
    ),
    "list-http-429": Scenario(
        "Google: the same with status 429", fails(HTTP_ERRORS[2]), Delivery(edit=oddities.in_a_list)
    ),
    # Errors on the status line, and bodies that are no answer
    **_http_errors(),
    "html-502": Scenario("an HTML page from a proxy", literal(502, "text/html", HTML_PAGE)),
    "html-200": Scenario("an HTML page with status 200", literal(200, "text/html", HTML_PAGE)),
    "text-429": Scenario("plain text with status 429", literal(429, "text/plain", b"slow down, please")),
    "empty": Scenario("status 200, no body", literal(200, "application/json", b"")),
    "blank": Scenario("status 200, a body of spaces", literal(200, "application/json", b"  \n  ")),
    "not-an-object": Scenario("status 200, a JSON array", literal(200, "application/json", b'["unexpected", 1]')),
    "json-to-stream": Scenario("a whole answer, even if a stream was asked for", says(PLAIN, streamed=False)),
    "stream-to-json": Scenario("an event stream, even if none was asked for", says(PLAIN, streamed=True)),
    # Labels that say something else than the body is
    **{
        f"labelled-{label or 'nothing'}": Scenario(
            f"plain text with cost fields, whatever it is labelled {label or 'nothing'}",
            _openrouter(0.0005, True, 0.01),
            Delivery(label=content_type),
        )
        for label, content_type in LABELS.items()
    },
    # Bytes on the wire
    "padded": Scenario("whitespace before the body", says(PLAIN), Delivery(edit=d.padded)),
    "keep-alives": Scenario("keep-alive comments before a good answer", says(replace(PLAIN, keep_alives=20))),
    "bytewise": Scenario("one byte a write, each its own chunk", says(PARALLEL), Delivery(write_size=1)),
    "by-length": Scenario("a stream with a content-length", says(LONG), Delivery(framing="length")),
    "until-close": Scenario("a body that ends with the connection", says(LONG), Delivery(framing="close")),
    "cr": Scenario("lines end with CR", says(PARALLEL), Delivery(edit=d.cr_line_ends)),
    "mixed-line-ends": Scenario("LF, CRLF and CR in one stream", says(PARALLEL), Delivery(edit=d.mixed_line_ends)),
    "bom": Scenario("a byte order mark first", says(PLAIN), Delivery(edit=d.byte_order_mark)),
    "two-data-lines": Scenario("two data lines an event", says(PARALLEL), Delivery(edit=d.two_data_lines)),
    "no-spaces": Scenario("no space after the colon of a field", says(PLAIN), Delivery(edit=d.no_space_after_colon)),
    "no-event-names": Scenario("no `event:` lines", says(PARALLEL), Delivery(edit=d.no_event_names)),
    "no-final-blank-line": Scenario("the last event is not closed", says(PLAIN), Delivery(edit=d.no_final_blank_line)),
    "no-done": Scenario("no `[DONE]`", says(PLAIN), Delivery(edit=d.no_done)),
    "named-done": Scenario("`event: data` with `[DONE]` at the end", says(PLAIN), Delivery(edit=d.named_done)),
    "data-after-done": Scenario("an event behind `[DONE]`", says(PLAIN), Delivery(edit=d.data_after_done)),
    "empty-output": Scenario(
        "Responses: the terminal event repeats no output", says(PARALLEL), Delivery(edit=responses.without_final_output)
    ),
    "aws-event-stream": Scenario(
        "AWS's binary event stream, even if none was asked for",
        says(PARALLEL, streamed=True),
        Delivery(edit=d.aws_event_stream, label="application/vnd.amazon.eventstream"),
    ),
    "huge-event": Scenario("one event of 20 MB", says(lambda asked: replace(PLAIN, text="x" * 20_000_000))),
    "gzip": Scenario("gzip", says(PARALLEL), Delivery(encodings=("gzip",))),
    "br": Scenario("Brotli", says(PARALLEL), Delivery(encodings=("br",))),
    "zstd": Scenario("Zstandard", says(PARALLEL), Delivery(encodings=("zstd",))),
    "gzip-br": Scenario("gzip, then Brotli", says(PARALLEL), Delivery(encodings=("gzip", "br"))),
    "gzip-bytewise": Scenario("gzip, one byte a write", says(PARALLEL), Delivery(encodings=("gzip",), write_size=1)),
    "gzip-corrupt": Scenario("gzip that is damaged half way", says(LONG), Delivery(encodings=("gzip",), corrupt=True)),
    # Connections
    "cut-chunked": Scenario(
        "closed in the middle of an event, chunked",
        says(LONG),
        Delivery(edit=d.in_halves, framing="chunked", cut_after=20),
    ),
    "cut-by-length": Scenario(
        "closed in the middle of an event, short of the content-length",
        says(LONG),
        Delivery(edit=d.in_halves, framing="length", cut_after=20),
    ),
    "cut-until-close": Scenario(
        "closed in the middle of an event, which looks like a clean end",
        says(LONG),
        Delivery(edit=d.in_halves, framing="close", cut_after=20),
    ),
    "cut-after-start": Scenario("closed after the first event", says(LONG), Delivery(cut_after=2)),
    "cut-in-tool-call": Scenario(
        "closed while the arguments of tool calls are sent", says(PARALLEL), Delivery(cut_after=15)
    ),
    "no-answer": Scenario("closed without a byte", says(PLAIN), Delivery(cut_after=0)),
    "silent": Scenario("nothing, until the test lets it pass or the client goes", says(LONG), Delivery(hold_after=0)),
    "head-only": Scenario("the head, then as above", says(LONG), Delivery(hold_after=1)),
    "held": Scenario("the head and eight events, then as above", says(LONG), Delivery(hold_after=9)),
}
