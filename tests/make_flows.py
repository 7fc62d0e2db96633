"""Record the catalogue of findings anew: `python -m tests.make_flows` (some seconds, no network).

Makes every file of `flows/` that `FINDINGS` names, by a call or a few through a real mitmdump with our addon, and
writes the table of `flows/README.md` from the expected rows that lie beside each file, which are written by hand.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

from mitmproxy.io import FlowWriter
from websockets.sync.client import connect

from tests.client import Call
from tests.detour import recording
from tests.mitmdump import http_flows
from tests.provider import Provider, Scenario
from tests.provider.answer import Answer, Error, Json, Place, ToolCall
from tests.provider.replies import says
from tests.provider.scenarios import BACKEND_LOST, OVERLOADED, PLAIN
from tests.socket_client import ENDS

FLOWS = Path(__file__).parents[1] / "flows"
CONFIG = FLOWS / "gateway.toml"
TABLE_BELOW = "<!-- The table is written by `python -m tests.make_flows`. -->\n\n"

SUFFIX = {"chat_completions": "/chat/completions", "responses": "/responses", "messages": "/messages"}
NATIVE = {
    "chat_completions": "openrouter.ai/api/v1",
    "responses": "api.openai.com/v1",
    "messages": "api.anthropic.com/v1",
}
"""Where a call goes that names no other place."""
VERCEL = "ai-gateway.vercel.sh/v1"
VIA_OPENROUTER, VIA_ANTHROPIC, VIA_OPENAI, VIA_VERCEL = (
    f"{host}/api/gateway" for host in ("openrouter.ai", "api.anthropic.com", "api.openai.com", "ai-gateway.vercel.sh")
)
"""Our gateway, at a listener that stands for that host."""
MODEL = "toy/coder"
"""In no price table, so that a change of prices changes no row."""
PROVIDER_KEY = "toy-provider-key-that-no-file-may-hold"
"""The gateway's own, for OpenRouter."""


@dataclass(frozen=True)
class Ask:
    """A call that asks `PROMPT`, on a connection of its own."""

    kind: str
    answered: str | Scenario = "text"
    """By the provider, should the call get there."""
    at: str = ""
    """Host and path before the kind's suffix; "" is `NATIVE`."""
    model: str = MODEL
    stream: bool = True
    more: Json = field(default_factory=dict)
    """Members that the body has besides, or instead."""
    headers: dict[str, str] = field(default_factory=dict)
    ended_by: Literal["provider", "client", "proxy"] = "provider"

    @property
    def host(self) -> str:
        return (self.at or NATIVE[self.kind]).partition("/")[0]

    @property
    def path(self) -> str:
        return "/" + (self.at or NATIVE[self.kind]).partition("/")[2] + SUFFIX[self.kind]

    @property
    def body(self) -> Json:
        return {"model": self.model, "stream": self.stream} | conversation(self.kind) | self.more


@dataclass(frozen=True)
class Turn:
    """A turn of a `Talk`: what it says besides the model."""

    more: Json
    answered: str | Scenario | None = "text"
    """None: the provider knows itself what to say."""
    ended_by: Literal["provider", "client"] = "provider"


@dataclass(frozen=True)
class Talk:
    """A WebSocket on which these calls are made, one after the other."""

    turns: list[Turn]
    host = "api.openai.com"
    path = "/v1/responses"
    headers: ClassVar = {"session-id": "toy-session"}


def calls_of(one: "Ask | Talk") -> int:
    """How many rows there must be."""
    return len(one.turns) if isinstance(one, Talk) else 1


PROMPT = "Why is the last page counted twice?"
READ = ToolCall("read_file", '{"path": "pages/pager.py"}')
SOURCE = "def page_count(items, size):\n    return len(items) // size + 1\n"
"""What the tool reads."""


def conversation(kind: str, *tool_turn: Json) -> Json:
    """The part of a body that asks `PROMPT`, with a tool's call and result behind it."""
    turns = [{"role": "user", "content": PROMPT}, *tool_turn]
    bodies: dict[str, Json] = {
        "chat_completions": {"messages": turns},
        "responses": {"input": turns},
        "messages": {"max_tokens": 1024, "messages": turns},
    }
    return bodies[kind]


def after_tool(kind: str, call_id: str) -> Json:
    """The same after the call `READ` and its result."""
    function = {"name": READ.name, "arguments": READ.arguments}
    tool_use = {"type": "tool_use", "id": call_id, "name": READ.name, "input": json.loads(READ.arguments)}
    tool_result = {"type": "tool_result", "tool_use_id": call_id, "content": SOURCE}
    turns: dict[str, tuple[Json, Json]] = {
        "chat_completions": (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": call_id, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": call_id, "content": SOURCE},
        ),
        "responses": (
            {"type": "function_call", "call_id": call_id} | function,
            {"type": "function_call_output", "call_id": call_id, "output": SOURCE},
        ),
        "messages": (
            {"role": "assistant", "content": [tool_use]},
            {"role": "user", "content": [tool_result]},
        ),
    }
    return conversation(kind, *turns[kind])


READS = Scenario("a tool call", says(Answer(text="I look at the pager.", tool_calls=(READ,), finish="tool_calls")))
TESTS = Scenario("another", says(Answer(tool_calls=(ToolCall("run_tests"),), finish="tool_calls")))


def failing(place: Place, error: Error, **more: Any) -> Scenario:
    """An answer of a few words with an error in it."""
    return Scenario(f"an error, {place}", says(replace(PLAIN, error=replace(error, place=place), **more)))


def each_kind(answered: str | Scenario, **more: Any) -> list[Ask]:
    return [Ask(kind, answered, **more) for kind in SUFFIX]


FOREIGN_FIELDS = {
    "reasoning": {"effort": "high"},
    "provider": {"order": ["toy-one"]},
    "metadata": {"user_id": "u-1", "session": "s-1"},
}
ASKS_FOR_USAGE = {"stream_options": {"include_usage": True}}

FINDINGS: dict[str, Sequence[Ask | Talk]] = {
    # Requests that the gateway must not forward
    "bad-messages-payload": [
        Ask("messages", at=VIA_ANTHROPIC, more={"messages": PROMPT}),
        Ask("messages", at=VIA_ANTHROPIC, model="  "),
    ],
    "custom-model-on-another-kind": [
        Ask("responses", at=VIA_OPENROUTER, model="acme/in-house"),
        Ask("messages", at=VIA_OPENROUTER, model="acme/in-house"),
    ],
    "custom-model-unknown": [
        Ask("responses", at=VIA_OPENROUTER, model="acme/gone"),
        Ask("messages", at=VIA_OPENROUTER, model="acme/gone"),
    ],
    "provider-without-the-kind": [Ask("responses", at=VIA_ANTHROPIC), Ask("messages", at=VIA_OPENAI)],
    # Requests that it must change
    "foreign-fields-for-a-strict-backend": [Ask("messages", "strict", at=VIA_ANTHROPIC, more=FOREIGN_FIELDS)],
    "auto-model-effort-on-messages": [
        Ask("messages", at=VIA_OPENROUTER, model="acme/auto", headers={"x-kilocode-mode": "plan"})
    ],
    "usage-not-asked-for": [Ask("chat_completions", at=VIA_OPENAI)],
    "free-model-keeps-its-cost": [
        Ask("chat_completions", "openrouter-cost", at=VIA_OPENROUTER, model="acme/free-coder")
    ],
    "provider-key-in-no-file": [
        Ask("chat_completions", at=VIA_OPENROUTER, stream=False, headers={"authorization": "Bearer any"})
    ],
    # Prompts and tools
    "tool-result-turn-keeps-the-prompt": [Ask(kind, stream=False, more=after_tool(kind, "call_1")) for kind in SUFFIX],
    # the provider numbers its answers, and the calls in them
    "follow-up-tool-call-keeps-the-prompt": [
        Ask("chat_completions", READS, stream=False),
        Ask("chat_completions", TESTS, stream=False, more=after_tool("chat_completions", "call_0001_0")),
        Ask("responses", READS, stream=False),
        Ask("responses", TESTS, stream=False, more=after_tool("responses", "call_0003_0")),
        Ask("messages", READS, stream=False),
        Ask("messages", TESTS, stream=False, more=after_tool("messages", "toolu_0005_0")),
    ],
    "tool-calls-split-over-deltas": each_kind("tools"),
    "tool-call-without-arguments": each_kind("tool-without-arguments"),
    "tool-call-cut-off": each_kind("tool-cut-off"),
    "terminal-event-with-empty-output": [Ask("responses", "empty-output")],
    "answer-starts-over": [Ask("messages", "starts-over")],
    # Usage
    "usage-chunk-with-empty-choices": [Ask("chat_completions", more=ASKS_FOR_USAGE)],
    "usage-never-sent": each_kind("usage-absent"),
    "cache-counted-in-input": each_kind("cached", stream=False),
    # Cost
    "vercel-messages-cost": [Ask("messages", "vercel", at=VIA_VERCEL)],
    "vercel-byok-costs-zero": [Ask("messages", "vercel-byok", at=VERCEL)],
    "openrouter-byok-cost": [Ask("chat_completions", "openrouter-byok")],
    "openrouter-byok-fee-waived": [Ask("chat_completions", "openrouter-byok-fee-waived")],
    "openrouter-byok-unknown": [Ask("chat_completions", "openrouter-byok-unknown")],
    "openrouter-byok-mismatch": [Ask("chat_completions", "openrouter-byok-mismatch")],
    "openrouter-cost-nonsense": [
        Ask("chat_completions", "openrouter-cost-invalid"),
        Ask("chat_completions", "openrouter-cost-implausible"),
    ],
    # Errors
    "error-inside-200-stream": each_kind("error-first"),
    "error-after-usage": [
        Ask("messages", failing("middle", OVERLOADED)),
        Ask("chat_completions", failing("after-finish", BACKEND_LOST), more=ASKS_FOR_USAGE),
    ],
    "error-as-finish": each_kind(failing("finish", BACKEND_LOST, usage="null")),
    "error-body-with-200": each_kind("error-body", stream=False),
    "html-502": [Ask("messages", "html-502")],
    "html-200": [Ask("messages", "html-200")],
    # The connection
    "aborted-by-the-client": [Ask("messages", "held", ended_by="client")],
    "cut-by-the-upstream": each_kind("cut-chunked"),
    "cut-that-looks-like-an-end": each_kind("cut-until-close"),
    "no-answer": [Ask("messages", "no-answer")],
    "gzip-br-and-zstd-streams": [Ask("messages", encoding) for encoding in ("gzip", "br", "zstd")],
    "gzip-damaged-halfway": [Ask("messages", "gzip-corrupt")],
    "keep-alives-before-the-answer": [Ask("chat_completions", "keep-alives")],
    "turns-on-one-websocket": [
        Talk(
            [
                Turn({"input": PROMPT, "generate": False}, None),
                Turn({"input": PROMPT}, READS),
                Turn(
                    {
                        "previous_response_id": "resp_0002",
                        "input": [{"type": "function_call_output", "call_id": "call_0002_0", "output": SOURCE}],
                    }
                ),
                Turn({"previous_response_id": "resp_of_another_connection", "input": "Go on."}, None),
                Turn({"previous_response_id": "resp_0003", "input": "Then mend it."}, "held", ended_by="client"),
            ]
        )
    ],
    # last, because nothing can follow
    "proxy-ended-first": [Ask("messages", "held", ended_by="proxy")],
}
"""By file name, without `.flow`: the calls that provoke it."""


def record(folder: Path) -> None:
    """Write the file of each finding into a folder, replacing what is there."""
    asks = [ask for finding in FINDINGS.values() for ask in finding]
    hosts = list(dict.fromkeys(ask.host for ask in asks))
    options, env = {"gateway_config": CONFIG}, {"OPENROUTER_API_KEY": PROVIDER_KEY}
    with TemporaryDirectory() as temporary:
        together = Path(temporary) / "all.flow"
        with recording(hosts, together, options=options, env=env) as (provider, urls):
            left_open = _make_calls(provider, dict(zip(hosts, urls, strict=True)))
        for call in left_open:
            call.leave()
        flows = http_flows(together)
    assert len(flows) == len(asks)
    # they were saved as they ended
    in_order = iter(sorted(flows, key=lambda flow: flow.request.timestamp_start))
    for name, finding in FINDINGS.items():
        with (folder / f"{name}.flow").open("wb") as file:
            writer = FlowWriter(file)
            for _ in finding:
                writer.add(next(in_order))


def _make_calls(provider: Provider, urls: dict[str, str]) -> list[Call]:
    """Make all calls, one after the other; return those that only the end of the proxy ends."""
    left_open = []
    for finding in FINDINGS.values():
        # the provider's numbers begin anew: a row does not depend on the findings before it
        provider.reset()
        for ask in finding:
            if isinstance(ask, Talk):
                _talk(provider, urls[ask.host], ask)
                continue
            provider.script(ask.answered)
            call = Call(urls[ask.host], ask.path, ask.body, ask.headers)
            if ask.ended_by == "provider":
                call.read()
                call.leave()
                continue
            call.response.read1()
            if ask.ended_by == "proxy":
                left_open.append(call)
            else:
                call.leave()
                assert provider.requests[-1].ended.wait(30)
    return left_open


def _talk(provider: Provider, url: str, talk: Talk) -> None:
    with connect(url.replace("http", "ws", 1) + talk.path, additional_headers=talk.headers) as connection:
        for turn in talk.turns:
            if turn.answered:
                provider.script(turn.answered)
            connection.send(json.dumps({"type": "response.create", "model": MODEL} | turn.more))
            while turn.ended_by == "provider" and json.loads(connection.recv())["type"] not in ENDS:
                pass
        connection.recv()
    assert provider.requests[-1].ended.wait(30)


def expected(name: str) -> Json:
    """What lies beside a file: `finding`, a sentence, and rows by table or view, with the columns that matter only."""
    read: Json = json.loads((FLOWS / f"{name}.json").read_text(encoding="utf-8"))
    return read


def table() -> str:
    """The catalogue as the README shows it."""
    lines = ["| File | What went wrong elsewhere | What the rows say |", "| --- | --- | --- |"]
    for name in FINDINGS:
        told = expected(name)
        rows = "<br>".join([*_rows(told["requests"]), *_texts(told)])
        lines.append(f"| [`{name}`]({name}.flow) | {told['finding']} | {rows} |")
    return "\n".join(lines) + "\n"


def _rows(requests: list[Json]) -> Iterator[str]:
    """A line for each row; kinds whose rows say the same share one."""
    kinds: dict[str, list[str]] = {}
    for row in requests:
        columns = [f"`{name}` {_shown(value)}" for name, value in row.items() if name not in ("api_kind", "outcome")]
        kinds.setdefault(", ".join([f"**{row['outcome']}**", *columns]), []).append(row["api_kind"])
    for columns_shown, same in kinds.items():
        yield f"{', '.join(dict.fromkeys(same))}: {columns_shown}"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case [{"op": _}, *_]:
            return ", ".join(f"{operation['op']} `{operation['path']}`" for operation in value)
        case str():
            return value
        case _:
            return json.dumps(value)


def _texts(told: Json) -> Iterator[str]:
    """Prompts and tool calls, each once."""
    yield from dict.fromkeys(f"prompt: “{row['user_prompt']}”" for row in told.get("prompts", []))
    yield from dict.fromkeys(f"tool call: {row['name']} `{row['arguments']}`" for row in told.get("tool_calls", []))


def readme() -> str:
    """The README with the table as it ought to be."""
    return (FLOWS / "README.md").read_text(encoding="utf-8").partition(TABLE_BELOW)[0] + TABLE_BELOW + table()


if __name__ == "__main__":
    record(FLOWS)
    (FLOWS / "README.md").write_text(readme(), encoding="utf-8")
