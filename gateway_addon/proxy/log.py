"""What may be said of our own failures in a log that anybody may read, when there is one, and who hears it."""

import logging
import traceback
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.addonmanager import traverse
from mitmproxy.addons.termlog import TermLogHandler
from mitmproxy.log import LegacyLogEvents, MitmLogHandler


def describe(error: Exception) -> str:
    """An exception of our own: where it happened, not its text, which may quote a prompt. Never raises."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return f"{type(error).__name__}{where}"


def leave_event_loop() -> None:
    """The event loop is closed: from now on the log goes to the terminal only. mitmproxy's other handlers raise."""
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if isinstance(handler, MitmLogHandler) and not isinstance(handler, TermLogHandler):
            root.removeHandler(handler)


def spare_old_events() -> None:
    """For each line mitmproxy walks through all addons, which takes longer than to write it: only where one of them
    still has the hook `add_log`, from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LegacyLogEvents):
            handler.addFilter(_is_heard)


def _is_heard(record: logging.LogRecord) -> bool:
    try:
        return any(hasattr(addon, "add_log") for addon in traverse(ctx.master.addons.chain))
    except Exception:
        # an addon may do what it likes when it is asked, and who logs must not hear of it
        return True
