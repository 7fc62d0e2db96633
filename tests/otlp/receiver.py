"""An OTLP/HTTP backend for tests: keeps a ledger of every span it took, and misbehaves as it is told to."""

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

Ids = tuple[str, str]
"""Of a span: trace and span, in hexadecimal."""


@dataclass(frozen=True)
class Reply:
    """What is answered in place of a 200. The spans are taken only under a 2xx that rejects none of them."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    rejected: int = 0
    message: str = ""
    hang_up: bool = False
    """Close the connection after the spans have been taken, without an answer."""


@dataclass
class Received:
    """A span that was taken."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    status: int
    message: str
    links: list[Ids]
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Receiver:
    """`with receiver() as backend`: listens at `backend.url`."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        """In the order they came, those that came again too."""
        self.sizes: list[int] = []
        """Spans of each request, whatever was answered."""
        self.headers: list[dict[str, str]] = []
        self.reply: Callable[[ExportTraceServiceRequest], Reply | None] = lambda request: None
        """Says what to answer; None: good."""
        self.url = ""
        self.news = threading.Condition()

    def script(self, *replies: Reply) -> None:
        """Answer the next requests like this, and all after them well."""
        left = list(replies)
        self.reply = lambda request: left.pop(0) if left else None

    @property
    def ledger(self) -> dict[Ids, Received]:
        """Each span once; the latest of those with the same ids."""
        return {(span.trace_id, span.span_id): span for span in self.spans}

    def calls(self) -> Counter[str]:
        """How often each call was told, by the id of its row."""
        return Counter(span.attributes["gateway_addon.request_id"] for span in self.spans if is_call(span))

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        with self.news:
            assert self.news.wait_for(condition, seconds), [span.name for span in self.spans]

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> Reply:
        with self.news:
            found = list(_spans(request))
            self.sizes.append(len(found))
            self.headers.append(headers)
            reply = self.reply(request) or Reply()
            if reply.status < 300 and not reply.rejected:
                self.spans += found
            self.news.notify_all()
        return reply


def is_call(span: Received) -> bool:
    return span.name.startswith("chat")


def _spans(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for of_resource in request.resource_spans:
        resource = {each.key: _value(each.value) for each in of_resource.resource.attributes}
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Received(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    status=span.status.code,
                    message=span.status.message,
                    links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    attributes={each.key: _value(each.value) for each in span.attributes},
                    resource=resource,
                )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def receiver() -> Iterator[Receiver]:
    backend = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = backend.take(ExportTraceServiceRequest.FromString(body), headers)
            if reply.hang_up:
                self.close_connection = True
                return
            answer = ExportTraceServiceResponse()
            answer.partial_success.rejected_spans = reply.rejected
            answer.partial_success.error_message = reply.message
            data = answer.SerializeToString()
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(data)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        backend.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        try:
            yield backend
        finally:
            server.shutdown()
            thread.join()
