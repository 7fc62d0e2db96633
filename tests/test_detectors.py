"""Tokens that only the optional extra knows."""

import sys

import pytest

from gateway_addon import detectors
from gateway_addon.detectors import tokens

SENDGRID = ".".join(["SG", "Kq3vT8xW1mZ6bR9nY2pL5s", "dF7gH1jK4lM8nP2qR5tV9wX3yZ6aB0cD4eF8gH2jK5m"])


def test_tokens_of_known_shape():
    pytest.importorskip("detect_secrets")
    assert tokens(f"mail with {SENDGRID}, nothing else") == {SENDGRID: "sendgrid_key"}


def test_what_only_looks_random_or_is_named_like_a_secret_is_left_alone():
    pytest.importorskip("detect_secrets")
    assert tokens('password = "kiwi-Custard-77"') == {}
    assert tokens('digest = "b0a1c2d3e4f5968778695a4b3c2d1e0f"') == {}


def test_without_the_extra_there_are_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "detect_secrets.core.plugins.util", None)
    detectors._asked.cache_clear()
    try:
        assert tokens(SENDGRID) == {}
    finally:
        detectors._asked.cache_clear()
