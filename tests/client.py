"""A plain HTTP client that sends and shows bytes as they are, for what the SDKs hide."""

import http.client
import io
import json
from typing import Any, cast
from urllib.parse import urlsplit

PATHS = {"chat_completions": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
"""A native path of each kind."""


def request_body(kind: str, model: str, *, stream: bool = True, **more: Any) -> dict[str, Any]:
    """A small request of a kind."""
    said = [{"role": "user", "content": "Why does the last test fail?"}]
    turns = {"input": said} if kind == "responses" else {"messages": said}
    return {"model": model, **turns, "max_tokens": 500, "stream": stream} | more


class Call:
    """One POST on a connection of its own; the answer can be read bit by bit, or left."""

    def __init__(self, url: str, path: str, body: object, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(cast(str, parts.hostname), parts.port, timeout=20)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request("POST", path, data, {"content-type": "application/json"} | (headers or {}))

    @property
    def response(self) -> http.client.HTTPResponse:
        """Waits for the answer's head."""
        if not hasattr(self, "_response"):
            self._response = self._connection.getresponse()
        return self._response

    def read(self) -> bytes:
        """The rest of the body as it came, cut or not."""
        return read_all(self.response)

    def leave(self) -> None:
        """Hang up."""
        self._connection.close()
        if hasattr(self, "_response"):
            self._response.close()


def read_all(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read()
    except http.client.IncompleteRead as cut:
        return cut.partial


def body_of(sent: bytes) -> bytes:
    """The body in the raw bytes of an answer, head and framing taken off, cut or not."""

    class Socket:
        def makefile(self, *_: object) -> io.BytesIO:
            return io.BytesIO(sent)

    response = http.client.HTTPResponse(cast(Any, Socket()))
    response.begin()
    return read_all(response)
