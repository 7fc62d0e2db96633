"""Agent loops, scripted: what the model calls and what its tools give back, in the words of each kind, as a capture.

The answers are the fake provider's, the requests those of the synthetic agents of `tests.sessions`.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mitmproxy import http
from mitmproxy.flow import Flow
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from tests.provider.answer import Answer, ToolCall
from tests.sessions import CLIENTS

PATHS = {"messages": "/v1/messages", "chat_completions": "/v1/chat/completions", "responses": "/v1/responses"}
HOSTS = {"messages": "api.anthropic.com", "chat_completions": "api.openai.com", "responses": "api.openai.com"}
SYSTEM = "You are a careful engineer. Find the cause before you change anything."
PROMPT = "Why does the last test fail?"
TOOLS = [
    ("bash", "Run a command."),
    ("web_fetch", "Open a page."),
    ("read_file", "Read a file."),
    ("task", "Delegate."),
]
KINDS = sorted(CLIENTS)


class Turn(NamedTuple):
    """A tool that the model calls, and what it gives back."""

    tool: str
    arguments: dict[str, Any]
    result: str


class Loop:
    """A session: each conversation of it goes on where the one before has ended.

    `flows` has its calls, unless `keep` takes them.
    """

    def __init__(
        self,
        kind: str,
        session: str = "s-1",
        start: float = 1_790_000_000.0,
        keep: Callable[[Flow], object] | None = None,
    ) -> None:
        self.kind, self.session, self.now = kind, session, start
        self.flows: list[Flow] = []
        self._keep = keep or self.flows.append
        self._number = 0
        self._client = CLIENTS[kind]

    def ask(
        self, turns: Iterable[Turn], *, prompt: str = PROMPT, agent: str | None = None, said: str = "Done."
    ) -> "Loop":
        """A conversation from a prompt to the model's last words."""
        history = [*self._client.begin(SYSTEM), self._client.prompt(prompt)]
        for turn in turns:
            calls = (ToolCall(turn.tool, json.dumps(turn.arguments)),)
            answer = self._call(history, Answer(text="", tool_calls=calls, finish="tool_calls"), agent)
            history += [*self._client.replay(answer), self._client.result(answer, turn.result)]
        self._call(history, Answer(text=said), agent)
        return self

    def _call(self, history: list[Any], answer: Answer, agent: str | None) -> Any:
        self._number = number = self._number + 1
        body = self._client.answer(
            Answer(**{**_fields(answer), "id": f"{self.session}-{number}", "model": "fake/coder"})
        )
        flow = tflow.tflow(resp=True)
        headers = {"x-session-id": self.session} | ({"thread-id": agent} if agent else {})
        url = f"https://{HOSTS[self.kind]}{PATHS[self.kind]}"
        request = self._client.request(SYSTEM, TOOLS, history, "0")
        flow.request = http.Request.make("POST", url, json.dumps(request), dict(headers))  # type: ignore[arg-type]
        assert flow.response
        flow.response.text = json.dumps(body)
        flow.id = f"{self.session}-flow-{number:03}"
        flow.request.timestamp_start = flow.request.timestamp_end = self.now
        flow.response.timestamp_start = flow.response.timestamp_end = self.now + 1
        self.now += 2
        self._keep(flow)
        return body


def _fields(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in answer.__dataclass_fields__}


def captured(path: Path, *loops: Loop) -> Path:
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for loop in loops:
            for flow in loop.flows:
                writer.add(flow)
    return path


def bash(command: str, result: str = "ok") -> Turn:
    return Turn("bash", {"command": command}, result)


def fetch(url: str, result: str) -> Turn:
    return Turn("web_fetch", {"url": url}, result)


def read(path: str, result: str) -> Turn:
    return Turn("read_file", {"path": path}, result)
