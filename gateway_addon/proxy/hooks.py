"""mitmproxy's hooks. Each does its few lines and returns: no disk, no network, no lock, and never an exception.

The life of a call: `request` recognises it and opens its row; `responseheaders` sets the recorder that the answer's
chunks pass through; `response` or `error`, whichever comes, closes it with its one true record. A flow from a file
takes the same way, with its body in one piece.
"""

import atexit
import functools
import gc
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Concatenate

from mitmproxy import ctx, exceptions, flow, http
from mitmproxy.addonmanager import Loader
from mitmproxy.log import ALERT
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tls import TlsData

from gateway_addon import __version__
from gateway_addon.api.base import ApiKind
from gateway_addon.cost import PriceTable
from gateway_addon.proxy import commands, options, reload, saving, views
from gateway_addon.proxy.callers import HostHeaders
from gateway_addon.proxy.calls import Calls
from gateway_addon.proxy.companion import Companion
from gateway_addon.proxy.dispatch import skip_the_deaf
from gateway_addon.proxy.log import describe, leave_event_loop, spare_old_events
from gateway_addon.proxy.veil import MaskedLog
from gateway_addon.sinks import Sinks
from gateway_addon.sinks.budget import Budget
from gateway_addon.sinks.console import Console
from gateway_addon.sinks.store import Store
from gateway_addon.store.database import StoreError

logger = logging.getLogger(__name__)


def guarded[**P, T](
    hook: Callable[Concatenate["GatewayAddon", Calls, P], T],
) -> Callable[Concatenate["GatewayAddon", P], T | None]:
    """A hook that is skipped while the addon is inert, and whose bugs stay in the addon."""

    @functools.wraps(hook)
    def run(self: "GatewayAddon", /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        if self.calls is None:
            return None
        try:
            return hook(self, self.calls, *args, **kwargs)
        except Exception as error:
            logger.warning("gateway-addon: %s failed, the flow goes on: %s", hook.__name__, describe(error))
            return None

    return run


class GatewayAddon:
    """Records model calls. Inert (`calls` is None) until the options have been read without an error."""

    name = "gateway-addon"

    def __init__(self) -> None:
        self.calls: Calls | None = None
        self._store: Store
        self._console = Console()
        self._hosts = HostHeaders()
        self._budget = Budget()
        self._companion: Companion | None = None
        self._log = MaskedLog()
        self._view = views.CallView(self._kind_of)
        self._failed_to_load = False
        self._is_running = False

    # -- life cycle ----------------------------------------------------------------------------------------------

    def load(self, loader: Loader) -> None:
        commands.add(loader, self._console)
        views.add(self._view)
        try:
            options.add(loader)
        except exceptions.OptionsError as error:
            # mitmproxy would swallow it here, and forward without us; an ERROR before `running` ends it
            self._failed_to_load = True
            logger.error("gateway-addon: %s", error)

    def configure(self, updated: set[str]) -> None:
        if self._is_running and "save_stream_file" in updated:
            saving.make_private(ctx.master.addons)
        if self._failed_to_load or not options.concern(updated):
            return
        try:
            self._apply(options.read(ctx.options))
        except (exceptions.OptionsError, StoreError) as error:
            if self._is_running:
                # rolls the change back
                raise exceptions.OptionsError(f"gateway-addon: {error}") from None
            logger.error("gateway-addon: %s", error)

    def running(self) -> None:
        if self.calls is None or self._is_running:
            return
        self._is_running = True
        saving.make_private(ctx.master.addons)
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._log)
        spare_old_events()
        skip_the_deaf(ctx.master.addons)
        # Python lets a thread run for 5 ms before another gets its turn: too long for a chunk to wait for our writer
        sys.setswitchinterval(0.0005)
        # what was loaded stays loaded: the collector need not walk through it again, which stops everything for 50 ms
        gc.freeze()
        logger.log(ALERT, "gateway-addon %s: %s", __version__, options.describe(self.calls.options, ctx.options))
        self._accompany(self.calls.options)

    def done(self) -> None:
        if not ctx.master.should_exit.is_set():
            # mitmproxy only loads the script anew, and this addon goes on; even if that fails
            reload.check_soon(self)
        elif not self._close():
            # mitmproxy takes no notice of an ERROR that comes this late
            ctx.master.addons.add(_Failure())

    def _apply(self, wanted: options.Options) -> None:
        if wanted.rewrite and not self._hosts.are_ours:
            self._hosts.are_ours = options.keep_host_headers(ctx.options)
        self._budget.limit = wanted.warn_usd
        if self.calls is None:
            # now, before a listener is up, or its first client is heard
            options.make_certificates(ctx.options)
            options.prefer_lazy_connections(ctx.options)
            store = self._store = Store(wanted.db, __version__)
            prices = PriceTable()
            # ... so that the first call has its price, and nothing waits while it is imported
            prices.load()
            self.calls = Calls(self._sinks(store), store.run_id, wanted, prices)
            # mitmproxy may also leave by sys.exit, which `done` cannot tell from a reload
            atexit.register(self._close_late)
            self._log.mask = wanted.mask
            return
        if wanted.db != self.calls.options.db:
            store, previous = Store(wanted.db, __version__), self._store
            self.calls.move(self._sinks(store), store.run_id, previous.close)
            self._store = store
        changed = (wanted.db, wanted.otlp) != (self.calls.options.db, self.calls.options.otlp)
        self._log.mask = wanted.mask
        self.calls.options = wanted
        if changed and self._is_running:
            self._accompany(wanted)

    def _accompany(self, wanted: options.Options | None) -> None:
        """Have the export run that is wanted beside the proxy, and no other. None: none."""
        companion, self._companion = self._companion, None
        if companion:
            companion.close()
        if wanted and wanted.otlp:
            try:
                self._companion = Companion(wanted.db)
            except OSError as error:
                logger.warning("gateway-addon: the export cannot be started: %s", error.strerror)

    def _sinks(self, store: Store) -> Sinks:
        return Sinks([store, self._console, self._budget])

    def _close(self) -> bool:
        """End the addon, once. False if rows of a file that was read are missing."""
        calls, self.calls = self.calls, None
        if calls is None:
            return True
        calls.close_all()
        is_whole = calls.sinks.close()
        self._accompany(None)
        return is_whole

    def _close_late(self) -> None:
        leave_event_loop()
        self._close()

    # -- flows ---------------------------------------------------------------------------------------------------

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        # first of all, whatever fails below
        self._expect(flow, self._hosts.put_right(flow))

    @guarded
    def _expect(self, calls: Calls, flow: http.HTTPFlow, host: str | None) -> None:
        calls.expect(flow, host)

    @guarded
    def request(self, calls: Calls, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """mitmproxy waits for what is returned, with this flow alone."""
        if calls.has_large(flow):
            return calls.open_large(flow)
        calls.open(flow)
        if not flow.live and flow.response is None and flow.error is None:
            # saved while it was under way: no other hook will come
            calls.close(flow)
        return None

    @guarded
    def responseheaders(self, calls: Calls, flow: http.HTTPFlow) -> None:
        calls.stream(flow)

    @guarded
    def response(self, calls: Calls, flow: http.HTTPFlow) -> None:
        if flow.websocket is None:
            calls.close(flow)

    @guarded
    def websocket_start(self, calls: Calls, flow: http.HTTPFlow) -> None:
        calls.converse(flow)

    @guarded
    def websocket_message(self, calls: Calls, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """mitmproxy waits for what is returned, with this flow alone."""
        return calls.message(flow)

    @guarded
    def websocket_end(self, calls: Calls, flow: http.HTTPFlow) -> None:
        calls.close(flow)

    @guarded
    def error(self, calls: Calls, flow: http.HTTPFlow) -> None:
        calls.close(flow)

    def _kind_of(self, flow: http.HTTPFlow) -> ApiKind | None:
        return self.calls.kind_of(flow) if self.calls else None

    def update(self, flows: Sequence[flow.Flow]) -> None:
        """Comes behind every hook of a flow, once all addons have seen it and before mitmproxy goes on."""
        for one in flows:
            if isinstance(one, http.HTTPFlow):
                self._pass_on(one)

    @guarded
    def _pass_on(self, calls: Calls, flow: http.HTTPFlow) -> None:
        calls.pass_on(flow)

    # -- servers -------------------------------------------------------------------------------------------------

    def server_connect(self, data: ServerConnectionHookData) -> None:
        self._hosts.name_server(data)
        self._pin(data)

    @guarded
    def _pin(self, calls: Calls, data: ServerConnectionHookData) -> None:
        calls.keys.pin(data.server)

    @guarded
    def server_connected(self, calls: Calls, data: ServerConnectionHookData) -> None:
        calls.own.opened(data.server)

    @guarded
    def server_disconnected(self, calls: Calls, data: ServerConnectionHookData) -> None:
        calls.own.closed(data.server)

    @guarded
    def server_connect_error(self, calls: Calls, data: ServerConnectionHookData) -> None:
        calls.failed("connect", data.server.error)

    @guarded
    def tls_failed_server(self, calls: Calls, data: TlsData) -> None:
        calls.failed("tls", data.conn.error)


class _Failure:
    """Ends mitmproxy with exit code 1, when all addons before it are done."""

    name = "gateway-addon-failure"

    def done(self) -> None:
        sys.exit(1)


ADDON = GatewayAddon()
"""The process's one instance (see addon.py)."""


def load(_: Loader) -> None:
    """Called where this file itself was given to `-s`: mitmproxy would go on with nothing recorded."""
    logger.error('gateway-addon: %s is no script; load it with: -s "$(gateway-addon addon-path)"', Path(__file__).name)
