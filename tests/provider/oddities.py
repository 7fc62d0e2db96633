"""What single vendors do otherwise, as edits of a delivery: an answer's events, or its whole body as the one piece.

An edit that does not concern a kind leaves its answers as they are.
"""

import json
from collections.abc import Callable

from tests.provider import sse
from tests.provider.answer import Json

COST = "0.00042"
"""USD."""


def cost_apart(pieces: list[bytes]) -> list[bytes]:
    """OpenCode Zen tells its cost in a frame (the charge in one behind `[DONE]`), a `ping`, or a member of its own."""
    if pieces[-1] == sse.DONE:
        told = {"choices": [], "x-opencode-type": "inference-cost", "cost": COST}
        return [*pieces[:-1], sse.event(told), sse.DONE, sse.event({"choices": [], "cost": "0"})]
    if _is_stream(pieces):
        return [*pieces, sse.typed({"type": "ping", "cost": COST})]
    return _each(pieces, lambda body: body | {"cost": COST})


def usage_in_choice(pieces: list[bytes]) -> list[bytes]:
    """Moonshot puts the usage of a stream into the choice that finishes it."""
    usage = [data["usage"] for data in map(_data, pieces) if data.get("choices") == [] and "usage" in data]
    if not usage:
        return pieces

    def edit(data: Json) -> Json:
        choices = [choice | {"usage": usage[0]} if choice["finish_reason"] else choice for choice in data["choices"]]
        return data | {"choices": choices}

    return _each([piece for piece in pieces if _data(piece).get("choices") != []], edit)


def one_index(pieces: list[bytes]) -> list[bytes]:
    """Gemini's compatible API, and others, send parallel calls one by one, each whole and all with index 0."""
    calls: dict[int, Json] = {}
    others = []
    for piece in pieces:
        data = _data(piece)
        delta = next((choice.get("delta") or {} for choice in data.get("choices") or []), {})
        if "tool_calls" not in delta:
            others.append(piece)
            continue
        for part in delta["tool_calls"]:
            call = calls.setdefault(part["index"], data | {"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]})
            function = call["choices"][0]["delta"]["tool_calls"][0]["function"]
            if function is not part["function"]:
                function["arguments"] += part["function"]["arguments"]
    if not calls:
        return pieces
    for call in calls.values():
        call["choices"][0]["delta"]["tool_calls"][0]["index"] = 0
    finish = next(i for i, piece in enumerate(others) if b'"finish_reason":"' in piece)
    return [*others[:finish], *map(sse.event, calls.values()), *others[finish:]]


def response_done(pieces: list[bytes]) -> list[bytes]:
    """The last event of Responses by the name that the realtime API gives it."""
    return [piece.replace(b"response.completed", b"response.done") for piece in pieces]


def in_a_list(pieces: list[bytes]) -> list[bytes]:
    """Google wraps errors into a list."""
    if _is_stream(pieces):
        return [piece.replace(b"data: {", b"data: [{").replace(b"}\n\n", b"}]\n\n") for piece in pieces]
    return [b"[%b]" % b"".join(pieces)]


RAN: Json = {
    "type": "code_interpreter_call",
    "id": "ci_1",
    "status": "failed",
    "code": "1/0",
    "outputs": [{"type": "logs", "logs": "ZeroDivisionError"}],
}
FETCHED: list[Json] = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_fetch", "input": {"url": "https://toy.example"}},
    {
        "type": "web_fetch_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {
            "type": "web_fetch_result",
            "url": "https://toy.example",
            "content": {"type": "document", "source": {"type": "text", "data": "the page"}},
        },
    },
]


def run_by_the_server(pieces: list[bytes]) -> list[bytes]:
    """A call that the server ran stands behind the text, with its result: in one item (Responses), in two blocks."""
    if not _is_stream(pieces):
        return _each(pieces, _with_run)
    *others, last = pieces
    match _data(last).get("type"):
        case "response.completed":
            item = {"type": "response.output_item.done", "output_index": 1, "item": RAN}
            return [
                *others,
                sse.typed(item),
                *_each([last], lambda data: data | {"response": _with_run(data["response"])}),
            ]
        case "message_stop":
            blocks = [
                event
                for index, block in enumerate(FETCHED, 1)
                for event in (
                    {"type": "content_block_start", "index": index, "content_block": block},
                    {"type": "content_block_stop", "index": index},
                )
            ]
            return [*others[:-1], *map(sse.typed, blocks), others[-1], last]
    return pieces


def _with_run(answer: Json) -> Json:
    if "output" in answer:
        return answer | {"output": [*answer["output"], RAN]}
    return answer | {"content": [*answer["content"], *FETCHED]} if "content" in answer else answer


def _is_stream(pieces: list[bytes]) -> bool:
    return b"data: " in pieces[-1]


def _data(piece: bytes) -> Json:
    """The JSON of an event or a body; empty for one that has none."""
    try:
        data = json.loads(piece.partition(b"data: ")[2] or piece)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _each(pieces: list[bytes], edit: Callable[[Json], Json]) -> list[bytes]:
    """Every event, or the body, with other data."""
    return [_edited(piece, edit) for piece in pieces]


def _edited(piece: bytes, edit: Callable[[Json], Json]) -> bytes:
    data = _data(piece)
    if not data:
        return piece
    if b"data: " not in piece:
        return json.dumps(edit(data)).encode()
    return sse.event(edit(data), data.get("type", ""))
