"""The API kinds. A fourth is one more module and one more entry in the tuple below."""

from collections.abc import Container

from gateway_addon.api import chat_completions, messages, responses
from gateway_addon.api.base import ApiKind, Json
from gateway_addon.wire.cut import CONVERSATION

_MODULES: tuple[ApiKind, ...] = (chat_completions, responses, messages)
KINDS = {kind.NAME: kind for kind in _MODULES}
"""By name. Looked up when a call comes, never copied: a script may add a kind of its own."""


def first_kind() -> ApiKind:
    """The kind in whose ways the gateway speaks where a path tells none: OpenAI's, which most clients understand."""
    return next(iter(KINDS.values()))


def kind_of_path(path: str) -> ApiKind | None:
    """The kind whose suffix ends `path`, query and one trailing slash aside; it decides first."""
    path = path.partition("?")[0].removesuffix("/")
    return next((kind for kind in KINDS.values() if path.endswith(kind.SUFFIX)), None)


def kind_of_headers(headers: Container[object]) -> ApiKind:
    """The kind whose own header is among these (lower case); `first_kind` if there is none."""
    owners = (kind for kind in KINDS.values() if kind.OWN_HEADER is not None and kind.OWN_HEADER in headers)
    return next(owners, first_kind())


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


def members() -> dict[str, str]:
    """The members of a request body that hold a part of a call in any kind, each with the part."""
    return {name: part for kind in KINDS.values() for name, part in kind.MEMBERS.items()}


def conversation_members() -> list[str]:
    """Those of `members` that hold the conversation."""
    return [name for name, part in members().items() if part == CONVERSATION]
