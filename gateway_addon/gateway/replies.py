"""The gateway's own answers, in the shape the client's SDK turns into its typed exception."""

from collections.abc import Container

from gateway_addon.api import chat_completions, messages
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.wire import jsontext

INTERNAL_ERROR = Refusal(500, "the gateway failed on this request and did not forward it", "internal_error")


def reply(refusal: Refusal, kind: ApiKind | None, headers: Container[str]) -> tuple[int, bytes]:
    """Status and JSON body of a refusal. `headers`: the names of the request's, in lower case.

    Without a kind: the OpenAI shape, unless the client speaks Anthropic's.
    """
    shape: ApiKind = kind or (messages if "anthropic-version" in headers else chat_completions)
    return refusal.status, jsontext.dumps(shape.error_body(refusal)).encode()
