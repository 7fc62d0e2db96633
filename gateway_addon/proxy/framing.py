"""The framing of an answer whose body is changed on its way: lengths, encoding, and no cost in its headers."""

from mitmproxy import http

from gateway_addon.call import Call
from gateway_addon.gateway.answers import WITHHELD, AnswerChange
from gateway_addon.proxy.veil import Answer


def changed_answer(call: Call, response: http.Response, pieces: list[bytes], *, withheld: bool) -> Answer:
    """What a client gets of a whole answer that is changed, or must be withheld, before any of it was sent."""
    body = b"".join(pieces)
    if withheld:
        headers = http.Headers(content_type="application/json", x_should_retry="false", content_length=str(len(body)))
        return Answer(WITHHELD.status, b"Bad Gateway", headers, body, None)
    headers = response.headers.copy()
    _without_costs(headers, call.passage.change)
    for name in ("content-encoding", "transfer-encoding"):
        headers.pop(name, None)
    headers["content-length"] = str(len(body))
    return Answer(response.status_code, response.data.reason, headers, body, response.trailers)


def prepare_head(flow: http.HTTPFlow, change: AnswerChange) -> None:
    """Prepare the answer's head for a body that is changed on its way.

    Lengths are not known beforehand, so the body becomes chunked for HTTP/1.1 (else the connection would have to end
    with it); a compressed one leaves decoded.
    """
    assert flow.response is not None
    headers = flow.response.headers
    _without_costs(headers, change)
    headers.pop("content-encoding", None)
    if headers.pop("content-length", None) is not None and flow.request.is_http11:
        headers["transfer-encoding"] = "chunked"


def _without_costs(headers: http.Headers, change: AnswerChange | None) -> None:
    if change and change.public_model is not None:
        # at one go, however many there are
        headers.fields = tuple(field for field in headers.fields if not _tells_money(field[0]))


_MONEY_HEADERS = (b"x-litellm-key-spend",)
"""Headers of an answer that tell money without a cost in their name."""


def _tells_money(name: bytes) -> bool:
    return b"cost" in name.lower() or name.lower() in _MONEY_HEADERS


def restore_head(response: http.Response, received: http.Headers) -> None:
    """Once the client has its head: let the flow hold the answer as received, but for the framing, by which mitmproxy
    still has to end the body."""
    framing = response.headers.get("transfer-encoding")
    response.headers = received
    if framing:
        response.headers.pop("content-length", None)
        response.headers["transfer-encoding"] = framing
