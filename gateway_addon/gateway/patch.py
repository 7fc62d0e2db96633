"""What the gateway has changed in a request, as it goes on record: RFC 6902 over `{"url", "headers", "body"}`."""

import hashlib
from typing import Any

from gateway_addon.api.base import Operation
from gateway_addon.config import Provider
from gateway_addon.gateway.plan import Plan
from gateway_addon.wire import jsontext
from gateway_addon.wire.headers import Headers
from gateway_addon.wire.jsontext import pointer

SECRET = "<secret>"
"""What stands for a key or token."""

LONG_VALUE = 200
"""Characters of a value above which its hash stands for it."""


def on_record(plan: Plan, headers: Headers) -> tuple[Operation, ...]:
    """The operations that lead from the client's request, which had these headers, to what was sent.

    Keys and tokens are `"<secret>"`, values over 200 characters `{"sha256", "bytes"}`.
    """
    changed = plan.set_headers | dict.fromkeys(plan.secret_headers, SECRET)
    operations: list[Operation] = [
        {"op": "replace", "path": "/url", "value": plan.url},
        *({"op": "remove", "path": pointer("headers", name)} for name in plan.remove_headers),
        *(
            {"op": "replace" if name in headers else "add", "path": pointer("headers", name), "value": value}
            for name, value in changed.items()
        ),
        *(operation | {"path": "/body" + operation["path"]} for operation in plan.operations),
    ]
    return tuple(op | {"value": _short(op["value"])} if "value" in op else op for op in operations)


def placeholder(provider: Provider) -> str:
    """What stands in a flow for a provider's key; on client replay it becomes today's."""
    return f"{{gateway:{provider.id}}}"


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else jsontext.dumps(value)
    if len(text) <= LONG_VALUE:
        return value
    data = text.encode("utf-8", "surrogatepass")
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
