"""The addon outlives the script that loaded it.

mitmproxy loads a script anew whenever its file is touched, and takes out what it had loaded before. When the file is
broken, or gone, nothing takes its place, and mitmproxy would go on without us: gateway calls would leave as they came,
tokens included, and the keys under way would be saved. So the addon puts itself back, beside mitmproxy's own addons,
until a script that loads has it again.
"""

import logging
from typing import Any

from mitmproxy import ctx

logger = logging.getLogger(__name__)


def check_soon(addon: Any) -> None:
    """The addon has been taken out: look whether it is back, as soon as mitmproxy has done what it is about to do.

    That is one step for mitmproxy, and no hook is called in it.
    """
    ctx.master.event_loop.call_soon(_put_back, addon)


def _put_back(addon: Any) -> None:
    addons = ctx.master.addons
    if addons.get(addon.name) is addon or ctx.master.should_exit.is_set():
        return
    # behind the scripts, so that it still comes before what saves flows; its options and commands have stayed. A new
    # list, because the old one may be on its way through somebody's hooks
    behind = addons.chain.index(addons.get("scriptloader")) + 1
    addons.lookup[addon.name] = addon
    addons.chain = [*addons.chain[:behind], addon, *addons.chain[behind:]]
    logger.warning("gateway-addon: its script cannot be loaded any more; the addon goes on as it was")


def handed_over(addon: Any) -> list[Any]:
    """The addons of a script that is being loaded: this one, out of the place it has put itself in, if it has; none if
    another script has it, as where the project's own and the installed one are both loaded."""
    addons = getattr(getattr(ctx, "master", None), "addons", None)
    if addons is None:
        return [addon]
    if any(other is addon for other in addons.chain):
        addons.remove(addon)
    elif addons.get(addon.name) is addon:
        logger.warning("gateway-addon: loaded already, by another script")
        return []
    return [addon]
