"""Small answers of Chat Completions, streamed and whole."""

import json
from typing import Any

CHUNK: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "model": "m"}
SAYS = CHUNK | {"choices": [{"index": 0, "delta": {"content": "höher als gedacht"}}]}
STOPS = CHUNK | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
COUNTS = CHUNK | {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "höher"}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3},
}
ERROR = {"error": {"message": "no credit", "code": 402}}


def stream(*events: object) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(event, ensure_ascii=False).encode() for event in events)


GOOD = b": keep-alive\n\n" + stream(SAYS, STOPS, COUNTS) + b"data: [DONE]\n\n"
