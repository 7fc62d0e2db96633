"""The three API kinds. A fourth is one more module and one more entry in the tuple below."""

from gateway_addon.api import chat_completions, messages, responses
from gateway_addon.api.base import ApiKind, Json

KINDS: dict[str, ApiKind] = {kind.NAME: kind for kind in (chat_completions, responses, messages)}


def kind_of_path(path: str) -> ApiKind | None:
    """The kind whose suffix ends `path`, query and one trailing slash aside; it decides first."""
    path = path.partition("?")[0].removesuffix("/")
    return next((kind for kind in KINDS.values() if path.endswith(kind.SUFFIX)), None)


def kind_of_request(by_path: ApiKind, body: Json | None) -> ApiKind:
    """The kind of a request on an observed path: the path's, unless the body has the shape of another kind only.

    Some clients send one kind's body to another's path.
    """
    if body is None or by_path.is_request(body):
        return by_path
    return next((kind for kind in KINDS.values() if kind.is_request(body)), by_path)


def kind_of_answer(by_request: ApiKind, answer: Json) -> ApiKind:
    """The kind an answer (or its first event) names itself as; the request's kind if it names none."""
    if by_request.is_answer(answer):
        return by_request
    return next((kind for kind in KINDS.values() if kind.is_answer(answer)), by_request)
