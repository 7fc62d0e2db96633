"""mitmproxy's walk through its addons, without those that have nothing to do with an event.

There are some fifty addons and a dozen events a flow. mitmproxy sets up a context and a coroutine for each addon before
it looks whether that has the hook at all, which takes a third of all time of a short call.
"""

from mitmproxy import exceptions
from mitmproxy.addonmanager import AddonManager, safecall
from mitmproxy.hooks import Hook

KNOWN = {"chain", "safecall", "invoke_addon", "exceptions", "AddonHalt"}
"""What mitmproxy's own walk is made of. One that is made of anything else is left alone."""


def skip_the_deaf(manager: AddonManager) -> None:
    """From now on only addons that have an event's hook, or addons of their own, are set up for it.

    Everything else is as before: the order, errors, and that each is asked every time, so that addons and their hooks
    may come and go.
    """

    async def trigger_event(event: Hook) -> None:
        name = event.name
        for addon in manager.chain:
            try:
                if getattr(addon, name, None) is None and not hasattr(addon, "addons"):
                    continue
            except Exception:
                # what an addon does when it is asked is mitmproxy's to tell
                pass
            try:
                with safecall():
                    await manager.invoke_addon(addon, event)
            except exceptions.AddonHalt:
                return

    if set(AddonManager.trigger_event.__code__.co_names) == KNOWN:
        # of this one only, and not of the class
        manager.trigger_event = trigger_event  # type: ignore[method-assign]
