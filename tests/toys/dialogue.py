"""A fourth API kind, which nobody speaks: the proof that a kind is one module (`gateway_addon.api.base.ApiKind`).

A request has `lines` where others have messages; a stream has `bit`s where others have deltas:

    {"model": "m", "persona": "You are a butler.", "lines": [{"role": "guest", "says": "Good evening"}],
     "acts": ["bow"], "vigour": "high", "listener": {"id": "guest-1"}, "stream": true}

    {"scene": "s1", "by": "m", "take": 0, "bit": {"says": "Good"}}
    {"scene": "s1", "by": "m", "act": {"id": "a1", "name": "bow", "how": "deeply"}}
    {"scene": "s1", "by": "m", "curtain": "applause", "counts": {"heard": 3, "said": 2}, "till": {"pence": 250}}
"""

import re
from collections.abc import Iterator, Mapping

from gateway_addon.api.base import (
    OTHER_EFFORT,
    Answer,
    HistoryItem,
    Json,
    Of,
    Operation,
    Problem,
    Reader,
    Refusal,
    RequestFacts,
    SidePath,
    ToolCall,
    ToolResult,
    Usage,
    of,
)
from gateway_addon.api.refusals import check_model, check_object
from gateway_addon.api.values import count, items, mapping, objects, text
from gateway_addon.terms import Role
from gateway_addon.wire.cut import CONVERSATION, SYSTEM, TOOLS

NAME = "dialogue"
SUFFIX = "/dialogue"
VENDOR = "pence"
USAGE_ON_REQUEST = False
OWN_HEADER = "x-dialogue"
SIDE_PATHS = (SidePath(("GET",), re.compile(r"/dialogue/props")),)
MEMBERS = {"persona": SYSTEM, "acts": TOOLS, "lines": CONVERSATION}
SYSTEM_ROLES = ("director",)
VOLATILE_MEMBERS = frozenset({"role", "of", "id"})
CACHE_SETTINGS = {"vigour": OTHER_EFFORT}
TRACKING_PLACES = ("/listener/id",)
FIELDS = frozenset({"model", "persona", "lines", "acts", "vigour", "listener", "stream"})
BETA_FIELDS: Mapping[str, tuple[str, ...]] = {}
FREE_TEXT_CALLS = ("act",)
DELTA_MEMBERS = ("bit",)
BLOCK_MEMBERS = ("take",)
MODEL_PLACES = ("/by",)
METADATA_PLACES = ("",)
USAGE_PLACES = ("/counts",)


def is_request(body: Json) -> bool:
    return "lines" in body


def is_answer(answer: Json) -> bool:
    return "scene" in answer


def read_request(body: Json, of: Of = of) -> RequestFacts:
    lines = list(objects(body.get("lines")))
    said = [words for line in lines if line.get("role") == "guest" and (words := text(line.get("says")))]
    return RequestFacts(
        model=text(body.get("model")),
        streamed=body.get("stream") is True,
        tools=[name for name in items(body.get("acts")) if isinstance(name, str)],
        tool_results=list(_results(lines)),
        system_prompt=text(body.get("persona")),
        user_prompt=said[-1] if said else None,
        first_prompt=said[0] if said else None,
    )


ROLES: dict[object, Role] = {"guest": "user", "stage": "tool", "director": "system"}


def history(body: Json) -> Iterator[HistoryItem]:
    if persona := text(body.get("persona")):
        yield HistoryItem(message=-1, role="system", text=persona)
    for number, line in enumerate(objects(body.get("lines"))):
        if line.get("role") == "stage":
            result = next(_results([line]))
            yield HistoryItem(message=number, role="tool", tool_result=result)
        else:
            yield HistoryItem(
                message=number, role=ROLES.get(line.get("role"), "assistant"), text=text(line.get("says"))
            )


def _results(lines: list[Json]) -> Iterator[ToolResult]:
    for line in lines:
        if line.get("role") == "stage":
            yield ToolResult(text(line.get("of")), "bow", text(line.get("shows")), None)


def reader(request: RequestFacts) -> Reader:
    return _Reader()


def validate(body: object) -> Refusal | None:
    return check_object(body) or check_model(mapping(body))


def error_body(refusal: Refusal) -> Json:
    return {"scene": None, "boo": refusal.message, "code": refusal.code}


def error_event(refusal: Refusal) -> tuple[str, Json]:
    return "", error_body(refusal)


def effort_operations(body: Json, effort: str) -> list[Operation]:
    return [] if "vigour" in body else [{"op": "add", "path": "/vigour", "value": effort}]


class _Reader:
    def __init__(self) -> None:
        self.answer = Answer()

    def goes_on(self, data: bytes, name: str) -> bool:
        return False

    def event(self, event: Json, name: str = "") -> None:
        self._read(event)

    def body(self, body: Json) -> None:
        self._read(body)

    def done(self) -> None:
        pass

    def finish(self) -> Answer:
        return self.answer

    def _read(self, event: Json) -> None:
        answer = self.answer
        if "scene" not in event:
            return
        answer.recognised = True
        answer.response_id = text(event.get("scene")) or answer.response_id
        answer.model = text(event.get("by")) or answer.model
        if said := text(mapping(event.get("bit")).get("says")):
            answer.started = True
            answer.text += said
        if act := mapping(event.get("act")):
            answer.started = True
            call = ToolCall(text(act.get("id")), text(act.get("name")), "act", "client", text(act.get("how")) or "{}")
            answer.tool_calls.append(call)
        if boo := text(event.get("boo")):
            answer.error = Problem(message=boo)
        if curtain := text(event.get("curtain")):
            answer.finish_reason = curtain
            answer.ended = answer.usage_final = True
            counts = mapping(event.get("counts"))
            answer.usage = Usage(input_tokens=count(counts.get("heard")), output_tokens=count(counts.get("said")))
            answer.reported_usage = counts | mapping(event.get("till"))
