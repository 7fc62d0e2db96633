"""The turns of a WebSocket in a flow file, each as the flow that the same call would be by HTTP."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from mitmproxy import http
from mitmproxy.flow import Error
from mitmproxy.websocket import WebSocketMessage

from gateway_addon.api import turns
from gateway_addon.api.base import Json
from gateway_addon.api.values import items, mapping, objects, text
from gateway_addon.captures.notes import PACE, left_out
from gateway_addon.captures.pace import schedule
from gateway_addon.wire import frames, jsontext, sse
from gateway_addon.wire.headers import Headers, media_type


@dataclass(slots=True, eq=False)
class Exchange:
    """A turn: what the client sent, and what it got."""

    number: int
    """Which `response.create` of the connection it was."""
    request: WebSocketMessage
    body: Json
    stream_id: str | None
    answers: list[WebSocketMessage] = field(default_factory=list)
    has_begun: bool = False
    response_id: str | None = None
    has_ended: bool = False


def exchanges(flow: http.HTTPFlow) -> Iterator[Exchange]:
    """The turns in a flow, in the order in which they began; none if it is no WebSocket with turns."""
    found: list[Exchange] = []
    number = left_out(flow)
    for message in flow.websocket.messages if flow.websocket else ():
        if message.from_client:
            body = jsontext.parse_object(message.content) if turns.may_ask(message.content) else None
            if body is not None and turns.creates(body):
                number += 1
                found.append(Exchange(number, message, body, turns.stream_of(body)))
            continue
        said = turns.read_message(message.content)
        # the answers that the gateway gave itself are to requests that went nowhere
        waiting = [one for one in found if not one.has_ended and one.request.dropped == message.injected]
        if (turn := turns.turn_of(said, waiting)) is not None:
            turn.answers.append(message)
            if said.begins:
                turn.has_begun, turn.response_id = True, said.response_id
            turn.has_ended = said.ends_turn(has_begun=turn.has_begun)
    yield from found


def as_http(flow: http.HTTPFlow, turn: Exchange) -> http.HTTPFlow:
    """A turn as a flow of its own."""
    made = http.HTTPFlow(flow.client_conn, flow.server_conn)
    made.request = http.Request.make("POST", flow.request.url, turn.request.content)
    made.request.timestamp_start = turn.request.timestamp
    events = [frames.as_event(answer.content) for answer in turn.answers]
    made.response = http.Response.make(200, b"".join(events), {"content-type": sse.MEDIA_TYPE})
    del made.response.headers["content-length"]
    times = [max(0.0, answer.timestamp - turn.request.timestamp) for answer in turn.answers]
    made.response.timestamp_start = turn.request.timestamp + (times[0] if times else 0.0)
    sizes = accumulate(map(len, events))
    made.metadata[PACE] = [[int(at * 1000), size] for at, size in zip(times, sizes, strict=True)]
    if not turn.has_ended:
        made.error = Error("the WebSocket was closed before the end of this turn")
    return made


def unstream(flow: http.HTTPFlow) -> None:
    """Give the answer of a turn as one body, for a client that wants no stream: its last event tells all."""
    last = next(reversed(list(messages(flow))), (0.0, b"{}"))[1]
    event = jsontext.parse_object(last) or {}
    if flow.response and (body := mapping(event.get("response")) or event):
        flow.response.headers["content-type"] = "application/json"
        flow.response.raw_content = jsontext.dumps(body).encode()
        flow.metadata.pop(PACE, None)


def messages(flow: http.HTTPFlow) -> Iterator[tuple[float, bytes]]:
    """The answer of a call, whatever it came by, as messages of a WebSocket, each with the seconds since the request
    when it came."""
    response = flow.response
    body = response.get_content(strict=False) if response else None
    if response is None or not body:
        return
    if sse.is_stream(body, is_labelled=media_type(Headers(response.headers.items())) == sse.MEDIA_TYPE):
        # of a compressed one nobody has noted when its events came
        pace = None if "content-encoding" in response.headers else flow.metadata.get(PACE)
        parser = sse.EventParser()
        for seconds, piece in schedule(body, pace):
            yield from ((seconds, event.data) for event in parser.feed(piece) if _is_message(event.data))
        yield from ((seconds, event.data) for event in parser.finish() if _is_message(event.data))
        return
    answer = jsontext.parse_object(body) or {}
    if response.status_code >= 400:
        error = answer.get("error") or {"message": response.reason}
        yield 0.0, jsontext.dumps({"type": "error", "status": response.status_code, "error": error}).encode()
    else:
        yield 0.0, jsontext.dumps({"type": "response.completed", "response": answer}).encode()


def _is_message(data: bytes) -> bool:
    return data.startswith(b"{")


class Histories:
    """What was said before an answer and in it, by the answer's id: requests leave out what the server knows."""

    def __init__(self) -> None:
        self._said: dict[str, list[object]] = {}

    def complete(self, body: Json) -> Json:
        """A request with the history that it leaves out, as far as it is known."""
        given = body.get("input")
        new = [{"role": "user", "content": given}] if isinstance(given, str) else items(given)
        return body | {"input": [*self._said.get(text(body.get("previous_response_id")) or "", ()), *new]}

    def learn(self, body: Json, answers: list[bytes]) -> None:
        """Remember a turn: its complete request, and the messages that answered it."""
        events = [event for answer in answers if (event := jsontext.parse_object(answer))]
        last = mapping(events[-1].get("response")) if events else {}
        output = [
            event["item"] for event in events if event.get("type") == "response.output_item.done" and "item" in event
        ]
        if id_ := text(last.get("id")):
            self._said[id_] = [*items(body.get("input")), *(output or objects(last.get("output")))]
