"""The difference between what a client gets and what is kept of its flow.

mitmproxy saves and shows a flow in the very hook after which it sends what the flow holds. So a flow is made fit to be
kept in `response`; in `update`, which mitmproxy calls next and last before it sends, an answer that has still to be
sent is put in its place; and when it has been sent, what is to be kept is there again.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Self

from mitmproxy import http

from gateway_addon.captures.masks import mask_flow
from gateway_addon.masking import Mask

MAX_TURNS = 50
"""Turns of the event loop in which an answer has certainly been sent. A flow that is not live any more tells that it
has; an upgraded one stays live."""


@dataclass(slots=True, frozen=True)
class Answer:
    """The parts of an answer."""

    status_code: int
    reason: bytes
    headers: http.Headers
    raw_content: bytes | None
    trailers: http.Headers | None

    @classmethod
    def of(cls, response: http.Response) -> Self:
        """What a response holds now, whatever becomes of it."""
        return cls(
            response.status_code,
            response.data.reason,
            response.headers.copy(),
            response.raw_content,
            response.trailers.copy() if response.trailers else None,
        )

    def put_into(self, response: http.Response) -> None:
        response.status_code = self.status_code
        response.data.reason = self.reason
        response.headers = self.headers
        response.raw_content = self.raw_content
        response.trailers = self.trailers


class Veil:
    """Masks flows for what keeps them, and lets their answers go as they came."""

    def __init__(self) -> None:
        self._live: dict[http.HTTPFlow, None] = {}
        self._unsent: dict[http.HTTPFlow, Answer] = {}
        """What is still to be sent of flows that are fit to be kept."""
        self._sending: dict[http.HTTPFlow, Answer] = {}
        """What is to be kept of flows that hold what is being sent."""

    def watch(self, flow: http.HTTPFlow) -> None:
        """A live flow begins: mitmproxy saves it when it ends, or when the proxy does."""
        self._live[flow] = None

    def draw(
        self,
        flow: http.HTTPFlow,
        mask: Mask,
        *,
        across: bool = False,
        instead: Answer | None = None,
        messages: bool = True,
    ) -> bool:
        """A flow has ended: mask it (`mask_flow`; messages that have been masked as they came are `messages` False).
        `instead`: what its client gets, where that is not what it holds."""
        self._live.pop(flow, None)
        response = flow.response
        unsent = instead or (Answer.of(response) if response and mask else None)
        found = mask_flow(flow, mask, across=across, messages=messages) if mask else False
        if unsent and flow.live and flow.websocket is None and flow.error is None and (found or instead):
            self._unsent[flow] = unsent
        return found

    def draw_all(self, mask: Mask) -> None:
        """The proxy ends: mask what is under way."""
        for flow in list(self._live):
            self.draw(flow, mask)
        for flow in list(self._sending):
            self._lower(flow, 0)

    def lift(self, flow: http.HTTPFlow) -> None:
        """mitmproxy is about to send a flow's answer, unless somebody holds it back."""
        if flow.response is None or flow.intercepted or (answer := self._unsent.pop(flow, None)) is None:
            return
        self._sending[flow] = Answer.of(flow.response)
        answer.put_into(flow.response)
        asyncio.get_running_loop().call_soon(self._lower, flow, MAX_TURNS)

    def _lower(self, flow: http.HTTPFlow, turns: int) -> None:
        """Put back what is to be kept once the answer has been sent, after so many turns of the loop at most."""
        if flow.live and turns:
            # mitmproxy may have to wait for a lock of the connection's
            asyncio.get_running_loop().call_soon(self._lower, flow, turns - 1)
        elif (kept := self._sending.pop(flow, None)) and flow.response:
            kept.put_into(flow.response)


class MaskedLog(logging.Filter):
    """Masks what is logged: mitmproxy quotes what a server that speaks no HTTP has sent."""

    mask = Mask()

    def filter(self, record: logging.LogRecord) -> bool:
        if self.mask and (text := self.mask.text(record.getMessage())) != record.getMessage():
            record.msg, record.args = text, ()
        return True
