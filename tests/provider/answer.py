"""What a model says and what a client asked, free of wire format.

Each kind's module writes the one and reads the other.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Json = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A call of the model; its id is made by the kind from the answer's id and the call's position."""

    name: str
    arguments: str = ""
    """Raw text; "" when the model wrote none, cut off where it ran out of tokens."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens. `input` is the total, cache reads and writes included; `output` includes reasoning."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


Place = Literal["first", "middle", "finish", "after-finish"]


@dataclass(frozen=True, kw_only=True)
class Error:
    """A failure, on the status line or inside a 200."""

    status: int
    type: str
    message: str
    vendor: str = ""
    """Whose error shape to use (`errors.SHAPES`); "" is the kind's own vendor."""
    place: Place = "first"
    """Where in an answer it happens: instead of it, in the middle of the content, as its finish, or behind it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a model."""

    id: str = "0"
    model: str = ""
    """"" until the provider fills in the model that was asked for."""
    reasoning: str = ""
    text: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Literal["stop", "tool_calls", "length", "content_filter", "queued"] = "stop"
    usage: Usage | Literal["absent", "null"] = field(default_factory=lambda: Usage(input=120, output=24))
    billing: Json = field(default_factory=dict)
    """A gateway's own fields inside the usage object: `cost`, `is_byok`, `cost_details`, ..."""
    gateway: Json | None = None
    """Vercel's gateway metadata."""
    inference_provider: str | None = None
    keep_alives: int = 0
    """Comments that a streamed answer sends before its first event."""
    error: Error | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the provider needs to know of a request to go on with a conversation. Tokens are estimates."""

    tools: Sequence[str]
    results: int
    """Tool results that the client has sent since the last user prompt."""
    known_tokens: int
    """Input that the call before this one already carried, which a prompt cache would know."""
    new_tokens: int


class Kind(Protocol):
    """The shape of a kind's module."""

    NAME: str
    SUFFIX: str
    REQUEST_ID_HEADER: str

    def body(self, answer: Answer) -> Json:
        """The answer as one JSON object."""

    def events(self, answer: Answer) -> list[bytes]:
        """The answer as server-sent events, one element each."""

    def error_body(self, error: Error) -> Json:
        """An error reply."""

    def read(self, body: Json) -> Asked: ...


def words(text: str) -> list[str]:
    """A text as the deltas of a stream."""
    return re.findall(r"\s*\S+\s*", text)


def argument_deltas(calls: Sequence[ToolCall]) -> list[tuple[int, str]]:
    """The arguments of parallel calls in small parts that take turns: pairs of position and part, none for ""."""
    size = 12
    parts = [
        (start, position, call.arguments[start : start + size])
        for position, call in enumerate(calls)
        for start in range(0, len(call.arguments), size)
    ]
    return [(position, part) for _, position, part in sorted(parts)]


def usage_field(answer: Answer, encode: Callable[[Usage], Json]) -> Json:
    """`{"usage": ...}`, to be merged into an object of the wire; `{}` if the answer reports none."""
    match answer.usage:
        case "absent":
            return {}
        case "null":
            return {"usage": None}
        case usage:
            return {"usage": encode(usage) | answer.billing}


def objects(value: object) -> list[Json]:
    """The JSON objects in a list; [] for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def tokens(value: object) -> int:
    """A rough count for any JSON value: four characters each."""
    return len(json.dumps(value)) // 4


def read_history(
    turns: Sequence[Json],
    preamble: object,
    tools: Sequence[str],
    *,
    is_prompt: Callable[[Json], bool],
    is_answer: Callable[[Json], bool],
    results_in: Callable[[Json], int],
) -> Asked:
    """Read a conversation, given what its turns are in this kind.

    `preamble` is what precedes the turns in a prompt cache: system prompt and tools.
    """
    prompt = max((i for i, turn in enumerate(turns) if is_prompt(turn)), default=0)
    answered = len(turns)
    while answered and not is_answer(turns[answered - 1]):
        answered -= 1
    while answered and is_answer(turns[answered - 1]):
        answered -= 1
    known = tokens([preamble, turns[:answered]]) if answered else 0
    return Asked(
        tools=tools,
        results=sum(results_in(turn) for turn in turns[prompt:]),
        known_tokens=known,
        new_tokens=tokens([preamble, turns]) - known,
    )
