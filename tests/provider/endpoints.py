"""Which requests are model calls, and what the endpoints beside them say."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from tests.provider import chat_completions, messages, responses
from tests.provider.answer import Answer, Json, Kind, tokens
from tests.provider.delivery import Reply
from tests.provider.replies import json_reply

KINDS: tuple[Kind, ...] = (chat_completions, responses, messages)


CLOUDS = re.compile(r"/model/[^/]+/invoke(-with-response-stream)?|/models/claude[^/]+:(rawPredict|streamRawPredict)")
"""Where Bedrock and Vertex take Messages."""


def kind_of_path(path: str) -> Kind | None:
    """The kind whose model calls go to this path; the query does not count."""
    path = path.partition("?")[0]
    if CLOUDS.search(path):
        return messages
    return next((kind for kind in KINDS if path.endswith(kind.SUFFIX)), None)


def side_reply(method: str, path: str, body: Json) -> Reply:
    """The reply to any request that is no model call; 404 for an unknown path."""
    for wanted, pattern, reply in _ENDPOINTS:
        if wanted == method and (match := re.search(pattern, unquote(path.partition("?")[0]))):
            return json_reply(reply(body, *match.groups()))
    unknown = {"message": f"Unknown path: {path}", "type": "invalid_request_error", "param": None, "code": None}
    return json_reply({"error": unknown}, 404)


def _model(body: Json, id_: str) -> Json:
    return {"id": id_, "object": "model", "created": 1790000000, "owned_by": "toy"}


def _models(body: Json) -> Json:
    return {"object": "list", "data": [_model({}, "toy/small"), _model({}, "toy/large")]}


def _stored_response(body: Json, id_: str) -> Json:
    answer = Answer(id=id_.removeprefix("resp_"), model="toy/large", text="Done in the background.")
    return responses.body(answer)


def _cancelled_response(body: Json, id_: str) -> Json:
    return _stored_response(body, id_) | {"status": "cancelled", "output": [], "usage": None}


def _input_tokens(body: Json) -> Json:
    return {"object": "response.input_tokens", "input_tokens": tokens(body)}


def _compacted(body: Json) -> Json:
    history = {"type": "compaction", "id": "cmp_0", "encrypted_content": "c3VtbWFyeQ=="}
    usage = {"input_tokens": tokens(body), "output_tokens": 40, "total_tokens": tokens(body) + 40}
    return {
        "id": "resp_0",
        "object": "response.compaction",
        "output": [history],
        "usage": usage,
    }


_ENDPOINTS: tuple[tuple[str, str, Callable[..., Json]], ...] = (
    ("POST", r"/messages/count_tokens$", lambda body: {"input_tokens": tokens(body)}),
    (
        "POST",
        r"/responses/input_tokens$",
        _input_tokens,
    ),
    ("POST", r"/responses/compact$", _compacted),
    ("POST", r"/responses/([^/]+)/cancel$", _cancelled_response),
    ("GET", r"/responses/([^/]+)$", _stored_response),
    ("GET", r"/models$", _models),
    ("GET", r"/models/(.+)$", _model),
)
