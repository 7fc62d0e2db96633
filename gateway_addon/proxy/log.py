"""What may be said of our own failures in a log that anybody may read, when there is one, and who hears it."""

import logging
import traceback
from pathlib import Path

from mitmproxy import ctx
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
            handler.addFilter(_Heard())


class _Heard(logging.Filter):
    """Lets a line pass if an addon has the hook for it. They are asked once, and again when there are others."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[int] = []
        self._is_heard = True

    def filter(self, record: logging.LogRecord) -> bool:
        # a copy: another thread may log while addons come and go
        addons = list(ctx.master.addons.lookup.values())
        if (ids := list(map(id, addons))) != self._asked:
            self._asked, self._is_heard = ids, any(map(_hears, addons))
        return self._is_heard


def _hears(addon: object) -> bool:
    try:
        return hasattr(addon, "add_log")
    except Exception:
        # it may do what it likes when it is asked, and who logs must not hear of it
        return True
