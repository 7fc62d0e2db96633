"""What went to hosts that serve models and has no row, because it is no call of a kind that can be read: counted, so
that nobody takes the rows for all there was."""

import logging
from collections import Counter

from mitmproxy.log import ALERT

from gateway_addon.credentials import SHAPE

logger = logging.getLogger(__name__)

MAX_PLACES = 100
"""Hosts and paths that are named, in all; the calls to further ones are counted as those to other hosts."""

OTHERS = "other hosts"


class Unrecorded:
    """Counts calls by host and names their paths: each once in the log as it comes, and all at the end."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._paths: dict[str, list[str]] = {}
        self._places = 0

    def add(self, host: str, path: str) -> None:
        """Count a call. `path` is without query; what looks like a credential in it is not shown."""
        host, path = _shown(host), _shown(path)
        paths = self._paths.get(host, [])
        if path not in paths:
            if self._places == MAX_PLACES:
                host = OTHERS
            else:
                self._places += 1
                self._paths.setdefault(host, paths).append(path)
                logger.log(ALERT, "gateway-addon: calls to %s are not recorded: %s", host, path)
        self._calls[host] += 1

    def report(self) -> None:
        """Say how many there were, a line for each host."""
        for host, number in self._calls.items():
            calls = "1 call to %s was" if number == 1 else f"{number} calls to %s were"
            paths = ", ".join(self._paths.get(host, ["…"]))
            logger.log(ALERT, f"gateway-addon: {calls} not recorded: %s", host, paths)


def _shown(name: str) -> str:
    """A name given by a stranger: what would move a terminal's cursor is shown as `?`."""
    return SHAPE.sub("…", "".join(c if c.isprintable() else "?" for c in name[:200]))
