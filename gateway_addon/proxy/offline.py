"""A flow file as a database: the rows that the addon makes of it, by its own hooks without mitmproxy around them."""

import os
import re
from pathlib import Path

from mitmproxy import eventsequence
from mitmproxy.http import HTTPFlow

from gateway_addon import __version__, config
from gateway_addon.captures import aloud, flowfile
from gateway_addon.captures.flowfile import Progress
from gateway_addon.content import Content
from gateway_addon.cost import PriceTable
from gateway_addon.masking import Mask
from gateway_addon.proxy.calls import Calls
from gateway_addon.proxy.hooks import GatewayAddon
from gateway_addon.proxy.options import Options
from gateway_addon.record import Record
from gateway_addon.sinks import Sinks
from gateway_addon.sinks.store import Store
from gateway_addon.store.passages import Passages


class _Seen:
    """Notes which flows are calls."""

    name = "the review"

    def __init__(self) -> None:
        self.flows: set[str] = set()

    def begin(self, record: Record) -> None:
        pass

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        # a turn of a WebSocket, and a replay, have the flow's id and more
        self.flows.add(re.split("[/~]", record.id)[0])

    def turn_away(self) -> None:
        pass

    def close(self) -> bool:
        return True


def store_rows(
    source: Path, target: Path, progress: Progress = lambda size: None, passages: Passages | None = None
) -> int:
    """Store the calls of a flow file in a database, as `mitmdump -n -r` with the default options does.

    `passages` takes what else the flows say. Returns how many flows were read. Raises `StoreError`, and `FlowFileError`
    when the rows of all whole flows are stored: its text then says how many these are.
    """
    settings = config.load(None, os.environ)
    options = Options(
        db=target,
        settings=settings,
        mask=Mask(settings.secrets),
        content="full",
        body_limit=0,
        warn_usd=None,
        rewrite=False,
        otlp=False,
        replay_keys=False,
        streams_requests=False,
    )
    store = Store(target, __version__)
    seen = _Seen()
    sinks = Sinks([store, seen])
    addon = GatewayAddon()
    prices = PriceTable()
    prices.load()
    addon.calls = Calls(sinks, store.run_id, options, prices)
    count = 0
    try:
        for flow in flowfile.read(source, progress):
            count += 1
            if isinstance(flow, HTTPFlow):
                for hook in eventsequence.iterate(flow):
                    if handler := getattr(addon, hook.name, None):
                        handler(*hook.args())
            if passages:
                is_call = flow.id in seen.flows
                said = aloud.said_in(flow, passages.note, is_call=is_call)
                passages.add(aloud.flow_of(flow), list(said), is_call=is_call)
    finally:
        addon.calls.close_all()
        sinks.close()
    return count
