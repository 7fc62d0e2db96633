"""The framing of an answer whose body is changed on its way: lengths, encoding, and no cost in its headers."""

import logging
from collections.abc import Sequence

from mitmproxy import http

from gateway_addon.answer import AnswerFeed
from gateway_addon.api.base import RequestFacts
from gateway_addon.gateway.answers import WITHHELD, AnswerChange
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.veil import Answer
from gateway_addon.wire.headers import Headers

logger = logging.getLogger(__name__)


def changed_answer(
    change: AnswerChange | None, response: http.Response, pieces: list[bytes], *, withheld: bool
) -> Answer:
    """What a client gets of a whole answer that is changed, or must be withheld, before any of it was sent."""
    body = b"".join(pieces)
    if withheld:
        headers = http.Headers(content_type="application/json", x_should_retry="false", content_length=str(len(body)))
        return Answer(WITHHELD.status, b"Bad Gateway", headers, body, None)
    headers = response.headers.copy()
    reason, trailers = response.data.reason, response.trailers
    if change:
        _hide(headers, change)
        reason = change.header(reason) or b""
        trailers = None if change.fails_closed else trailers
    for name in ("content-encoding", "transfer-encoding"):
        headers.pop(name, None)
    if body or "content-length" in headers:
        headers["content-length"] = str(len(body))
    return Answer(response.status_code, reason, headers, body, trailers)


def prepare_head(flow: http.HTTPFlow, change: AnswerChange) -> None:
    """Prepare the answer's head for a body that is changed on its way.

    Lengths are not known beforehand, so the body becomes chunked for HTTP/1.1 (else the connection would have to end
    with it); a compressed one leaves decoded.
    """
    assert flow.response is not None
    headers = flow.response.headers
    _hide(headers, change)
    flow.response.data.reason = change.header(flow.response.data.reason) or b""
    headers.pop("content-encoding", None)
    if headers.pop("content-length", None) is not None and flow.request.is_http11:
        headers["transfer-encoding"] = "chunked"


def bare_answer(change: AnswerChange, response: http.Response, prepared: http.Headers | None) -> Answer:
    """What a client gets of an answer without a body. `prepared`: its head (`prepare_head`), by which mitmproxy may
    still have to end it."""
    if prepared is None:
        return changed_answer(change, response, [], withheld=False)
    return Answer(response.status_code, response.data.reason, prepared, b"", response.trailers)


def side_answer(changes: Sequence[AnswerChange], response: http.Response) -> Answer | None:
    """What a client gets of an answer that nobody else reads, and of which nothing has been sent; None: what came.

    Of several changes the first counts that has something to do with it.
    """
    body = response.get_content(strict=False) or b""
    change = next((one for one in changes if not one.where_named or one.is_named_in(body)), None)
    if change is None:
        return None
    try:
        headers = Headers(response.headers.items(multi=True))
        feed = AnswerFeed(change.kind, RequestFacts(), response.status_code, headers, change)
        pieces = [*feed.feed(response.raw_content or b""), *feed.end()]
        return changed_answer(change, response, pieces, withheld=feed.is_withheld)
    except Exception as error:
        logger.warning("an answer is withheld, changing it failed: %s", describe(error))
        return changed_answer(change, response, [change.error_body()], withheld=True)


def _hide(headers: http.Headers, change: AnswerChange) -> None:
    """No header tells a free model's cost, or its name at its provider."""
    if change.public_model is not None:
        # at one go, however many there are
        fields = ((name, change.header(value)) for name, value in headers.fields if not _tells_money(name))
        headers.fields = tuple((name, value) for name, value in fields if value is not None)


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
