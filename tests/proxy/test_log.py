"""Who hears what is logged."""

import logging

from mitmproxy.log import LegacyLogEvents
from mitmproxy.test import taddons

from gateway_addon.proxy.log import spare_old_events

LINE = logging.LogRecord("any", logging.INFO, __file__, 1, "a line", (), None)


class OldAddon:
    def add_log(self, entry: object) -> None:
        """The hook that mitmproxy has given up for `logging`."""


class Script:
    def __init__(self) -> None:
        self.addons = [OldAddon()]


def hears_of_lines() -> bool:
    (handler,) = [handler for handler in logging.getLogger().handlers if isinstance(handler, LegacyLogEvents)]
    return bool(handler.filter(LINE))


def test_addons_are_asked_to_hear_a_line_only_where_one_has_the_hook_for_it():
    with taddons.context() as mitmproxy:
        assert hears_of_lines()
        spare_old_events()
        assert not hears_of_lines()
        # however late it comes, and within whatever
        mitmproxy.master.addons.add(Script())
        assert hears_of_lines()


class Moody:
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


def test_an_addon_that_fails_when_it_is_asked_costs_no_line():
    with taddons.context() as mitmproxy:
        spare_old_events()
        mitmproxy.master.addons.lookup["moody"] = Moody()
        assert hears_of_lines()
