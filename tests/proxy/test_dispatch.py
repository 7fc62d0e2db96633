"""What addons hear is the same with mitmproxy's walk through them and with ours."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import UpdateHook
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.test import taddons, tflow

from gateway_addon.proxy.dispatch import skip_the_deaf


class Named:
    """An addon that notes what it hears."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self.name = name
        self._heard = heard

    def __repr__(self) -> str:
        return self.name

    def hear(self, event: str) -> None:
        self._heard.append(f"{self.name} {event}")


class Hearing(Named):
    def request(self, flow: object) -> None:
        self.hear("request")


class Updated(Named):
    def update(self, flows: list[object]) -> None:
        self.hear("update")


class Waiting(Named):
    async def request(self, flow: object) -> None:
        await asyncio.sleep(0)
        self.hear("request")


class Outer(Named):
    def __init__(self, name: str, heard: list[str]) -> None:
        super().__init__(name, heard)
        self.addons = [Hearing("inner", heard), Waiting("inner, too", heard)]


class Wrong(Named):
    request = 7


class Moody(Named):
    is_calm = True

    @property
    def request(self) -> object:
        if self.is_calm:
            return None
        raise ValueError("not today")


class Failing(Hearing):
    def request(self, flow: object) -> None:
        super().request(flow)
        raise ValueError("an addon's own mistake")


class Halting(Hearing):
    def request(self, flow: object) -> None:
        super().request(flow)
        raise exceptions.AddonHalt


def heard_by_all(
    caplog: pytest.LogCaptureFixture, begin: Callable[[AddonManager], None]
) -> tuple[list[str], list[str]]:
    """What addons of all sorts hear of two requests, between which some come and go; and what is logged."""
    heard: list[str] = []
    caplog.clear()
    with taddons.context() as mitmproxy, asyncio.Runner() as runner:
        manager = mitmproxy.master.addons
        begin(manager)
        deaf, leaving, script = Named("deaf", heard), Hearing("leaving", heard), Outer("script", heard)
        halting = Halting("halting", heard)
        moody = Moody("moody", heard)
        sorts: list[Any] = [Hearing, Waiting, Updated, Wrong, Failing]
        manager.add(moody, *(sort(sort.__name__, heard) for sort in sorts), deaf, script, leaving)
        moody.is_calm = False
        for number in range(2):
            runner.run(manager.handle_lifecycle(HttpRequestHook(tflow.tflow())))
            runner.run(manager.trigger_event(UpdateHook([])))
            if number == 0:
                heard.append("-- and then")
                manager.remove(leaving)
                # mitmproxy's own scripts come and go like that
                script.addons = [Hearing("loaded anew", heard), Named("nothing", heard)]
                deaf.request = lambda flow: deaf.hear("request, at last")  # type: ignore[attr-defined]
                manager.add(halting, Hearing("behind it", heard))
        moody.is_calm = True
        # else it goes on listening to the log, when its event loop has been closed
        mitmproxy.master._legacy_log_events.uninstall()
    return heard, [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_every_addon_hears_what_it_would_hear_and_errors_are_told_alike(caplog: pytest.LogCaptureFixture):
    before, errors = heard_by_all(caplog, lambda manager: None)
    assert "inner, too request" in before
    assert before[-1] == "Updated update"
    assert "deaf request, at last" in before
    assert "behind it request" not in before
    assert len(errors) == 6
    assert heard_by_all(caplog, skip_the_deaf) == (before, errors)


def test_addons_without_the_hook_are_not_set_up_for_it(monkeypatch: pytest.MonkeyPatch):
    set_up: list[object] = []
    original = AddonManager.invoke_addon

    async def invoke(self: AddonManager, addon: object, event: Any) -> None:
        set_up.append(addon)
        await original(self, addon, event)

    monkeypatch.setattr(AddonManager, "invoke_addon", invoke)
    with taddons.context() as mitmproxy:
        hearing = Hearing("hearing", [])
        mitmproxy.master.addons.add(Named("deaf", []), hearing)
        skip_the_deaf(mitmproxy.master.addons)
        asyncio.run(mitmproxy.master.addons.trigger_event(HttpRequestHook(tflow.tflow())))
    assert hearing in set_up
    assert not any(isinstance(addon, Named) and addon.name == "deaf" for addon in set_up)


def test_a_walk_that_is_not_the_one_we_know_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    async def other(self: AddonManager, event: object) -> None:
        """Of a mitmproxy to come."""

    monkeypatch.setattr(AddonManager, "trigger_event", other)
    with taddons.context() as mitmproxy:
        skip_the_deaf(mitmproxy.master.addons)
        assert "trigger_event" not in vars(mitmproxy.master.addons)


def test_the_walk_of_this_mitmproxy_is_known():
    with taddons.context() as mitmproxy:
        skip_the_deaf(mitmproxy.master.addons)
        assert "trigger_event" in vars(mitmproxy.master.addons)
