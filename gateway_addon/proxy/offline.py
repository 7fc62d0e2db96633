"""A flow file as a database: the rows that the addon makes of it, by its own hooks without mitmproxy around them."""

import os
from pathlib import Path

from mitmproxy import eventsequence
from mitmproxy.http import HTTPFlow

from gateway_addon import __version__, config
from gateway_addon.captures import flowfile
from gateway_addon.captures.flowfile import Progress
from gateway_addon.cost import PriceTable
from gateway_addon.masking import Mask
from gateway_addon.proxy.calls import Calls
from gateway_addon.proxy.hooks import GatewayAddon
from gateway_addon.proxy.options import Options
from gateway_addon.sinks import Sinks
from gateway_addon.sinks.store import Store


def store_rows(source: Path, target: Path, progress: Progress = lambda size: None) -> int:
    """Store the calls of a flow file in a database, as `mitmdump -n -r` with the default options does.

    Returns how many flows were read. Raises `StoreError`, and `FlowFileError` when the rows of all whole flows are
    stored: its text then says how many these are.
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
    sinks = Sinks([store])
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
    finally:
        addon.calls.close_all()
        sinks.close()
    return count
