"""The building blocks of scenarios: each makes a function from a call to its reply."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.provider.answer import Answer, Asked, Error, Json, Kind
from tests.provider.delivery import Reply


@dataclass(frozen=True)
class Call:
    """A model call as received: `id` is new for every call, `body` is a JSON object."""

    kind: Kind
    body: Json
    id: str

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def streamed(self) -> bool:
        return self.body.get("stream") is True

    @property
    def request_id(self) -> dict[str, str]:
        return {self.kind.REQUEST_ID_HEADER: f"req_{self.id}"}


Replier = Callable[[Call], Reply]


def says(answer: Answer | Callable[[Asked], Answer], *, streamed: bool | None = None) -> Replier:
    """An answer, or one decided from the conversation so far. `streamed` overrides what the client asked for."""

    def reply(call: Call) -> Reply:
        said = answer if isinstance(answer, Answer) else answer(call.kind.read(call.body))
        said = replace(said, id=call.id, model=said.model or call.model)
        if call.streamed if streamed is None else streamed:
            return _event_stream(call, call.kind.events(said))
        return json_reply(call.kind.body(said), headers=call.request_id)

    return reply


def starts_over(first: Answer, then: Answer) -> Replier:
    """A stream in which a gateway's retry is spliced in: half of the events of one answer, then all of another.

    A client that wants no stream sees nothing of it.
    """

    def reply(call: Call) -> Reply:
        if not call.streamed:
            return says(then)(call)
        cut, whole = (
            call.kind.events(replace(answer, id=f"{call.id}{suffix}", model=call.model))
            for answer, suffix in ((first, "a"), (then, "b"))
        )
        return _event_stream(call, cut[: len(cut) // 2] + whole)

    return reply


def fails(error: Error) -> Replier:
    """An error on the status line, as JSON whether or not a stream was asked for."""
    return lambda call: json_reply(call.kind.error_body(error), error.status, call.request_id)


def literal(status: int, content_type: str, body: bytes) -> Replier:
    return lambda call: Reply(status=status, content_type=content_type, pieces=[body])


def json_reply(body: Json, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    text = json.dumps(body, ensure_ascii=False)
    return Reply(status=status, content_type="application/json", pieces=[text.encode()], headers=headers or {})


def _event_stream(call: Call, events: list[bytes]) -> Reply:
    return Reply(content_type="text/event-stream; charset=utf-8", pieces=events, headers=call.request_id)
