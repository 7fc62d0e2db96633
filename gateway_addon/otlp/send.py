"""Spans over the network, by OpenTelemetry's own exporter. Needs the extra `otlp`.

Where to, and how, is told by the standard variables `OTEL_EXPORTER_OTLP_*`, and whose spans they are by
`OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway_addon import __version__
from gateway_addon.otlp.export import Accepted, RefusedError, UnavailableError
from gateway_addon.otlp.spans import Context, Span

DEFAULT_ENDPOINT = "http://localhost:4318"

REFUSING = {400, 413, 422}
"""Statuses by which a backend refuses what it was sent; any other is a trouble of its own, or of the configuration."""

PASSING = {408, 429, 502, 503, 504}
"""Statuses after which it is worth to try again."""

KINDS = {"client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}


def endpoint(environment: Mapping[str, str]) -> str:
    """Where spans go, by the standard variables. Raises ValueError, one line."""
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != "http/protobuf":
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: only http/protobuf is spoken")
    if url := environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return url
    base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT
    return f"{base.removesuffix('/')}/v1/traces"


def shown(url: str) -> str:
    """An endpoint as it may be shown and stored: without credentials, which may stand before the host or in a query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Sender:
    """Sends spans to an endpoint, each time once: when to try again is decided by who calls."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for settings that make no sense."""
        self._session = _Session()
        self._exporter = OTLPSpanExporter(endpoint=url, session=self._session)
        # it would log what is reported here
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        own = Resource({SERVICE_NAME: "gateway-addon", SERVICE_VERSION: __version__})
        self._resource = own.merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("gateway_addon", __version__)

    def __call__(self, spans: Iterable[Span]) -> Accepted:
        """Raises `RefusedError` if the backend does not want these spans, `UnavailableError` if it cannot be had."""
        self._session.forget()
        # older exporters let it through
        with suppress(_ResultError):
            self._exporter.export([self._readable(span) for span in spans])
        if isinstance(self._session.result, Exception):
            raise self._session.result
        return self._session.result

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.context, is_remote=False),
            parent=_context(span.parent, is_remote=span.parent_is_remote) if span.parent else None,
            resource=self._resource,
            attributes=span.attributes,
            links=[Link(_context(link, is_remote=False)) for link in span.links],
            kind=KINDS[span.kind],
            instrumentation_scope=self._scope,
            status=Status(StatusCode.ERROR, span.message) if span.failed else Status(),
            start_time=span.start,
            end_time=span.end,
        )


def _context(context: Context, *, is_remote: bool) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))


class _ResultError(Exception):
    """Keeps the exporter from trying again: it would sleep, and forget what `retry-after` says."""


class _Session(requests.Session):
    """Notes how a request ended, of which the exporter only tells whether it did well."""

    def forget(self) -> None:
        # what it stays if the exporter does not even try
        self.result: Accepted | RefusedError | UnavailableError = RefusedError("too large for one message")

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            response = super().request(*args, **kwargs | {"allow_redirects": False})
        except OSError as error:
            # not its text: that has the whole URL
            self.result = UnavailableError(type(error).__name__, passing=True)
            raise _ResultError from None
        self.result = _result(response)
        if not isinstance(self.result, Accepted):
            raise _ResultError
        return response


def _result(response: requests.Response) -> Accepted | RefusedError | UnavailableError:
    status = response.status_code
    if status in REFUSING:
        return RefusedError(f"HTTP {status}")
    if not 200 <= status < 300:
        retry_after = _seconds(response.headers.get("retry-after"))
        return UnavailableError(f"HTTP {status}", passing=status in PASSING, retry_after=retry_after)
    try:
        partial = ExportTraceServiceResponse.FromString(response.content).partial_success
    except Exception:
        # some answer in JSON, or with nothing of their own
        return Accepted()
    return Accepted(partial.rejected_spans, partial.error_message)


def _seconds(retry_after: str | None) -> float | None:
    """What `retry-after` says: seconds, or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except ValueError:
        return None
