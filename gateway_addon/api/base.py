"""What the three API kinds have in common: the values their readers produce and the shape of a kind's module.

Nothing here does I/O. A kind is a module with the attributes of `ApiKind`; `gateway_addon.api.KINDS` lists them.
`None` always means "unknown": it is never replaced by 0, "" or a guess.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway_addon.terms import Executor, Role, SideRequest, Warning

Json = dict[str, Any]
"""A JSON object as `gateway_addon.wire.jsontext.parse` returns it: fractions are `Decimal`, so no digit is lost."""

Operation = dict[str, Any]
"""One RFC 6902 operation on a body: `{"op": "add" | "replace" | "remove", "path": JSON pointer, "value": ...}`."""


OTHER_EFFORT = "other effort"
OTHER_TOOL_CHOICE = "other tool choice"
OTHER_CACHE_KEY = "other cache key"
"""What the changes of `ApiKind.CACHE_SETTINGS` are called."""


@dataclass(slots=True)
class ToolCall:
    """A call the model made in an answer (or, in a request's history, made earlier)."""

    call_id: str | None
    name: str | None
    type: str
    """As on the wire: `function`, `custom`, `tool_use`, `server_tool_use`, `function_call`, `shell_call`, ..."""
    executor: Executor
    """Who runs it."""
    arguments: str | None
    """Raw text as the model wrote it; `{}` when the model wrote none; possibly cut off. None: not to be stored."""
    arguments_valid: bool | None = None
    """Set only where `arguments` were taken away (`content.without_text`): whether they were JSON."""


@dataclass(slots=True)
class ToolResult:
    """A result that a request carries for an earlier call."""

    call_id: str | None
    name: str | None
    """Looked up from the call of the same id in the same request; None if it is not there."""
    content: str | None
    """None: not to be stored."""
    is_error: bool | None
    """None where the format has no error signal (chat, `function_call_output`)."""
    duration_ms: float | None = None
    """How long the tool took by the client's own clock, where the client tells."""


@dataclass(slots=True)
class RequestFacts:
    """What a request says, the same for every kind."""

    model: str | None = None
    streamed: bool = False
    max_tokens: int | None = None
    tools: list[str] = field(default_factory=list)
    """Names of the tools offered, in order, without repeats."""
    tool_results: list[ToolResult] = field(default_factory=list)
    """Only the new ones: those that follow the last assistant turn."""
    system_prompt: str | None = None
    user_prompt: str | None = None
    """The last *real* one."""
    user_turns: list[list[str]] = field(default_factory=list)
    """What all user turns say, the last first, each as its text parts as sent."""
    opening_system: str | None = None
    """The part of the system prompt before the first turn; later parts are not in every request of a conversation."""
    first_prompt: str | None = None
    """The first real one; None where the conversation may have begun before the history that is sent."""
    side_request: SideRequest | None = None
    """None for a real turn; else `title`, `quota_probe`, `warmup`, `compaction`, `suggestion`, ..."""
    previous_id: str | None = None
    """Where the history is kept on the server: `previous_response_id`, `conversation`, or a continued thread."""
    namespaces: frozenset[str] = frozenset()
    """Tool namespaces the request declares (Responses only); a reader needs them to name calls."""


@dataclass(slots=True, frozen=True, kw_only=True)
class HistoryItem:
    """One thing that a request says: a text, reasoning, a tool call, a result, or what is no text.

    A message that says nothing is an item without any of them.
    """

    message: int
    """Which message or item of the conversation it is from; -1: what stands beside the conversation."""
    role: Role
    """What came of tools that the server ran is the assistant's."""
    text: str | None = None
    reasoning: str | None = None
    tool_call: ToolCall | None = None
    tool_result: ToolResult | None = None
    note: str | None = None
    """What stands for a picture, a file or a part nobody knows: type, names and sizes."""


@dataclass(slots=True)
class Usage:
    """Token counts under names that mean the same for every kind."""

    input_tokens: int | None = None
    """Total input, cache reads and writes included, for every kind."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """The part of the writes with a one-hour lifetime; dearer. Used for the estimate only."""
    output_tokens: int | None = None
    """Total output, reasoning included."""
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    """The part of the input that is audio; priced apart."""
    output_audio_tokens: int | None = None


@dataclass(slots=True)
class Pass:
    """One sampling pass of several in an answer (Messages `iterations`)."""

    model: str | None
    """None: the same model as the answer."""
    usage: Usage


@dataclass(slots=True)
class Problem:
    """An error as the answer names it."""

    message: str | None = None
    type: str | None = None
    status: int | None = None
    """HTTP status named in the error, or mapped from its type; not the one of the status line."""


@dataclass(slots=True)
class Answer:
    """What was read of an answer so far. A reader fills it in; it is valid, if partial, at every moment."""

    response_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    finish_detail: str | None = None
    service_tier: str | None = None
    inference_provider: str | None = None
    usage: Usage = field(default_factory=Usage)
    reported_usage: Json | None = None
    """The usage object(s) as reported, merged by the kind's rules; numbers exact, no message text."""
    gateway: Json | None = None
    """Vercel's gateway metadata object (`provider_metadata.gateway`), wherever it was found, as reported."""
    generation_id: str | None = None
    """Vercel's top-level `generationId`."""
    extra_passes: list[Pass] = field(default_factory=list)
    """Those that `usage` leaves out: priced on top."""
    price_context: dict[str, str] = field(default_factory=dict)
    """Price modifiers that are not the tier: `speed`, `inference_geo`, a redeemed `fallback_credit`."""
    fees: dict[str, int] = field(default_factory=dict)
    """How often something was used that costs a fee of its own, by the price table's unit: `web_searches`, ..."""
    hidden_tokens: bool = False
    """Tokens were billed that the counts leave out: what the answer cost cannot be estimated."""
    passes: list[Pass] = field(default_factory=list)
    """The sampling passes that `usage` sums up, where the answer tells them apart; a price may depend on each."""
    own_cost: object = None
    """A figure of the provider's own that stands outside of the usage (a frame, a `ping`, a top-level `cost`)."""
    own_charge: object = None
    """What the provider says it charges, where it tells that beside `own_cost`: less in a subscription."""
    warnings: list[Warning] = field(default_factory=list)
    """What of the answer could not be told for certain."""
    error: Problem | None = None
    """The first error the answer reported, completed by later ones that say more."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    """In order of position. A reader may assemble them only in `finish`."""
    tool_results: list[ToolResult] = field(default_factory=list)
    """Of tools that the server ran within the answer. A tool that failed is no `error` of the answer."""
    text: str = ""
    reasoning: str = ""
    started: bool = False
    """The first token (text, reasoning, or part of a tool call) has been seen."""
    recognised: bool = False
    """Something of this kind's format was seen; False after a whole 2xx body means `unreadable`."""
    ended: bool = False
    """The kind's end was seen (outcome `complete`)."""
    usage_final: bool = False
    """The counts are the final ones; False while they are a start value or missing."""


class Reader(Protocol):
    """Reads one answer of a kind, event by event or as a whole. Never raises for any JSON value (ground rule 1)."""

    answer: Answer

    def goes_on(self, data: bytes, name: str) -> bool:
        """Take the JSON text of an event, with its name, if it does no more than to go on with a text that is known.

        False: it may do more, and is to be given to `event`. Nothing else may come of it than would come of that.
        """

    def event(self, event: Json, name: str = "") -> None:
        """Take one streamed event: its parsed `data`, and the `event:` name, which only matters without a `type`."""

    def done(self) -> None:
        """Take the `[DONE]` marker; a gateway's events of its own may follow."""

    def body(self, body: Json) -> None:
        """Take a whole answer that was not streamed (possibly an error object)."""

    def finish(self) -> Answer:
        """Assemble what is only known at the end of the data (also of cut data). Called once, last."""


@dataclass(slots=True, frozen=True)
class Refusal:
    """Why the gateway answers a request itself."""

    status: int
    message: str
    code: str
    """The OpenAI `code`: `invalid_body`, `model_not_found`, ...; the types follow from status (and kind)."""


@dataclass(slots=True, frozen=True)
class SidePath:
    """A path of a kind's API beside that of its calls: the gateway forwards it, with path and credentials changed."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    """Matches the whole path behind the gateway's prefix, as sent; no dot segments, nothing that is still encoded."""
    logged: bool = False
    side_request: SideRequest | None = None
    names_model: bool = False
    """Its body may name a model, which is chosen as for a call."""


class Of(Protocol):
    """`of(function, values)` is `function(value)` of each, which may be remembered from an earlier call."""

    def __call__[V, T](self, function: Callable[[V], T], values: Iterable[V], /) -> list[T]: ...


def of[V, T](function: Callable[[V], T], values: Iterable[V], /) -> list[T]:
    """Where nothing is remembered."""
    return list(map(function, values))


class ApiKind(Protocol):
    """The shape of a kind's module. Whoever handles calls looks the kind up in `api.KINDS` and asks for these."""

    NAME: str
    """`chat_completions`, `responses` or `messages`."""
    SUFFIX: str
    """How its path ends: `/chat/completions`, `/responses`, `/messages`."""
    VENDOR: str
    """The dialect spoken when nothing says otherwise: `openai` or `anthropic`."""
    USAGE_ON_REQUEST: bool
    """Whether a stream tells its usage only if `stream_options.include_usage` asks for it."""

    @property
    def OWN_HEADER(self) -> str | None:
        """The request header (lower case) that only this kind's clients send, if there is one."""

    @property
    def SIDE_PATHS(self) -> Sequence[SidePath]:
        """Further paths that the gateway takes; the first that fits counts."""

    @property
    def MEMBERS(self) -> Mapping[str, str]:
        """The members of a request body that hold a part of the call, each with the part (`wire.cut.PARTS`)."""

    @property
    def SYSTEM_ROLES(self) -> Collection[str]:
        """What `role` says of turns that hold instructions: a harness's words, not a turn of the conversation."""

    @property
    def VOLATILE_MEMBERS(self) -> Collection[str]:
        """Members of a turn that say nothing, or something else in each run of the same conversation."""

    @property
    def CACHE_SETTINGS(self) -> Mapping[str, str]:
        """Members of a request, besides model and parts, without which a cached conversation is not found again.

        Each with what a change of it is called in reports.
        """

    @property
    def TRACKING_PLACES(self) -> Sequence[str]:
        """JSON pointers to where a request names a person or a session."""

    @property
    def FIELDS(self) -> Collection[str] | None:
        """The top-level members that its vendor takes from everybody; None: it does not mind foreign ones."""

    @property
    def BETA_FIELDS(self) -> Mapping[str, tuple[str, ...]]:
        """Further members its vendor takes, each with how the names of the betas begin that bring it."""

    @property
    def FREE_TEXT_CALLS(self) -> Collection[str]:
        """Types of tool calls whose arguments are free text, not JSON."""

    @property
    def DELTA_MEMBERS(self) -> Collection[str]:
        """The members of stream events in which texts go on where those of an earlier event ended, at any depth."""

    @property
    def BLOCK_MEMBERS(self) -> Collection[str]:
        """The top-level members of a stream event that tell which block of the answer it goes on with."""

    @property
    def MODEL_PLACES(self) -> Sequence[str]:
        """JSON pointers to the model's name in a whole answer and in stream events; a missing one is skipped.

        `*` stands for every element of an array.
        """

    @property
    def METADATA_PLACES(self) -> Sequence[str]:
        """JSON pointers, as for `MODEL_PLACES`, to the objects in which a gateway puts members of its own."""

    @property
    def USAGE_PLACES(self) -> Sequence[str]:
        """JSON pointers, as for `MODEL_PLACES`, to the objects that hold the usage."""

    def is_request(self, body: Json) -> bool:
        """Whether a request body may be this kind's, by its shape.

        Messages takes any body with `messages`; Chat Completions only those without a sign of Messages (top-level
        `system`, `anthropic_version`, `input_schema`, `tool_use`/`tool_result` blocks); Responses those with `input`
        and no `messages`.
        """

    def is_answer(self, answer: Json) -> bool:
        """Whether a whole answer or stream event names itself as this kind (`object`, `type`)."""

    def read_request(self, body: Json, of: Of = of) -> RequestFacts:
        """What a request says. Never raises.

        What the elements of its conversation say is asked of `of`: a conversation is sent again with every call.
        """

    def history(self, body: Json) -> Iterator[HistoryItem]:
        """All that a request says, in its order: system prompt, then the conversation. Never raises."""

    def reader(self, request: RequestFacts) -> Reader: ...

    def validate(self, body: object) -> Refusal | None:
        """What the gateway refuses before sending (`invalid_body`, and `model_not_found` for no model)."""

    def error_body(self, refusal: Refusal) -> Json:
        """The addon's own error reply, in the shape this kind's SDKs turn into their typed exceptions."""

    def error_event(self, refusal: Refusal) -> tuple[str, Json]:
        """The same as the last event of a stream that has begun: its `event:` name ("": none) and its data."""

    def effort_operations(self, body: Json, effort: str) -> list[Operation]:
        """Put a reasoning effort into this kind's own field(s), never over an explicit wish of the client."""
