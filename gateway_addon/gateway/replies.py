"""The gateway's own answers, in the shape the client's SDK turns into its typed exception."""

from collections.abc import Container

from gateway_addon.api import kind_of_headers
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.wire import jsontext

INTERNAL_ERROR = Refusal(500, "the gateway failed on this request and did not forward it", "internal_error")


def reply(refusal: Refusal, kind: ApiKind | None, headers: Container[str]) -> tuple[int, bytes]:
    """Status and JSON body of a refusal. `headers`: the names of the request's, in lower case.

    Without a kind: in the shape of the kind that the headers tell.
    """
    shape = kind or kind_of_headers(headers)
    return refusal.status, jsontext.dumps(shape.error_body(refusal)).encode()
