"""A provider that speaks the toy kind."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

SECRET = "sk-" + "ant-" + "Zq8mW2rT5yB9nK4vX7cL"
"""Which the answers hold, in two pieces."""

SAID = ["Good ", "evening, ", SECRET[:12], SECRET[12:], " sir"]


def events(model: str) -> list[dict[str, Any]]:
    scene = {"scene": "s1", "by": model}
    return [
        *(scene | {"take": 0, "bit": {"says": words}} for words in SAID),
        scene | {"act": {"id": "a1", "name": "bow", "how": "deeply"}},
        scene | {"curtain": "applause", "counts": {"heard": 30, "said": 20}, "till": {"pence": 250}},
    ]


class Stage:
    """`with Stage() as stage:` serves on `stage.url`, and keeps path, headers and body of what it was asked."""

    def __enter__(self) -> Self:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                data = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events(body["model"]))
                self._send("text/event-stream", data)

            def do_GET(self) -> None:
                asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, None))
                self._send("application/json", b'["a chair"]')

            def _send(self, content_type: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
