"""A model call as a person reads it, in mitmweb, mitmproxy's console and `mitmdump --flow-detail 3`."""

from collections.abc import Callable

from mitmproxy import contentviews, flow, http
from mitmproxy.contentviews import Metadata, SyntaxHighlight

from gateway_addon import glance
from gateway_addon.api import KINDS
from gateway_addon.api.base import ApiKind
from gateway_addon.captures import notes
from gateway_addon.proxy.log import describe

NAME = "model call"

PRIORITY = 3.0
"""Above JSON and GraphQL, which take at most 2."""


class CallView(contentviews.Contentview):
    """Requests, answers and WebSocket messages of model calls. mitmproxy calls it on its event loop, whenever somebody
    looks; how much of a message it reads has its bounds (`glance`).

    `kind_of` says of which kind a call is that is still under way; None: no call.
    """

    name = NAME
    syntax_highlight: SyntaxHighlight = "none"

    def __init__(self, kind_of: Callable[[http.HTTPFlow], ApiKind | None]) -> None:
        self._kind_of = kind_of

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Asked of every message of every flow: nothing is read for it. Never raises."""
        try:
            return PRIORITY if data and self._kind(metadata.flow) else -1
        except Exception:
            return -1

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The message as text. Never raises; what cannot be read is shown as it is."""
        try:
            kind = self._kind(metadata.flow)
            if isinstance(metadata.flow, http.HTTPFlow) and kind:
                return self._text(kind, data, metadata.flow, metadata)
            return glance.raw(data, "no message of a model call")
        except Exception as error:
            return glance.raw(data, f"it cannot be shown as a conversation: {describe(error)}")

    def _text(self, kind: ApiKind, data: bytes, flow: http.HTTPFlow, metadata: Metadata) -> str:
        if metadata.websocket_message:
            return glance.message(kind, data, from_client=metadata.websocket_message.from_client)
        if isinstance(message := metadata.http_message, http.Response):
            content_type = message.headers.get("content-type", "")
            return glance.response(kind, data, message.status_code, content_type, notes.record_of(flow))
        return glance.request(kind, data)

    def _kind(self, flow: flow.Flow | None) -> ApiKind | None:
        if not isinstance(flow, http.HTTPFlow):
            return None
        return KINDS.get(notes.kind_in(flow) or "") or self._kind_of(flow)


def add(view: CallView) -> None:
    """Have mitmproxy offer the view. The script that loads us may be loaded again: then it has it already."""
    if contentviews.registry.get(view.name) is not view:
        contentviews.add(view)
