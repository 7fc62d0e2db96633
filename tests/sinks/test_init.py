"""Every sink is told of every call, and one that fails harms neither the call nor the others."""

import logging
from typing import Any

import pytest

from gateway_addon.content import Content
from gateway_addon.sinks import Sinks
from tests.store.calls import make_record


class Told:
    """Notes what it is told."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name = name
        self.heard: list[str] = []
        self._fails = fails

    def begin(self, record: Any) -> None:
        self._hear(f"begin {record.id}")

    def finish(self, record: Any, content: Any, *, wait: bool) -> None:
        self._hear(f"finish {record.id} {wait}")

    def turn_away(self) -> None:
        self._hear("turn away")

    def close(self) -> bool:
        self._hear("close")
        return True

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if self._fails:
            raise RuntimeError("a prompt may stand here")


def test_each_is_told_in_order_whatever_another_does(caplog: pytest.LogCaptureFixture):
    broken, good = Told("the broken one", fails=True), Told("the good one")
    sinks = Sinks([broken, good])
    with caplog.at_level(logging.WARNING):
        sinks.begin(make_record(id="a"))
        sinks.finish(make_record(id="a"), Content(), wait=True)
        sinks.turn_away()
        sinks.close()
    assert broken.heard == good.heard == ["begin a", "finish a True", "turn away", "close"]
    (reported,) = caplog.messages
    assert "the broken one failed: RuntimeError at test_init.py" in reported
    assert "a prompt" not in caplog.text
