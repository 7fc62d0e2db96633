"""What can be asked for in mitmproxy's command lines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions, http
from mitmproxy.command import CommandManager
from mitmproxy.test import taddons, tflow

from gateway_addon.proxy.hooks import GatewayAddon
from tests.make_demo import DEMO
from tests.mitmdump import http_flows
from tests.proxy.test_views import played, socket_flow

PROMPT = "Two players with equal points get different ranks."


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CommandManager, list[http.HTTPFlow]]]:
    """mitmproxy's commands, and the flows of the demo as they are when it has loaded them; the last is a WebSocket."""
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(tmp_path_factory.mktemp("commands") / "gateway.db"))
        yield context.master.commands, played(addon, *http_flows(DEMO), socket_flow())
        addon._close()


def test_each_has_a_name_that_mitmweb_takes_and_help(session: Any):
    commands, _ = session
    ours = {name: command for name, command in commands.commands.items() if name.startswith("gateway.")}
    assert set(ours) == {
        *("gateway.export", "gateway.export.forms", "gateway.redact", "gateway.show", "gateway.totals"),
    }
    for name, command in ours.items():
        assert name.replace(".", "").isalpha()
        assert command.help


def test_show_tells_the_conversation_with_the_answer(session: Any):
    commands, flows = session
    text = commands.call("gateway.show", flows[1])
    assert text.startswith("── system prompt\nYou are a careful engineer.")
    assert PROMPT in text
    assert "▸ read_file path: scores/ranking.py" in text
    with pytest.raises(exceptions.CommandError, match="no model call"):
        commands.call("gateway.show", tflow.tflow(resp=True))


def test_show_tells_each_turn_of_a_websocket(session: Any):
    commands, flows = session
    text = commands.call("gateway.show", flows[-1])
    assert text.startswith("── system prompt\nBe brief.\n\n── user\nWhy?\n\n── assistant\nSo.\n[")
    assert "responses gpt-5.1 · in 12 out 3" in text


def test_totals_are_those_of_the_end(session: Any):
    commands, _ = session
    assert commands.call("gateway.totals").startswith(
        "14 calls, 2 not complete · in 6.4k (cached 4.4k) out 525 · $0.01"
    )


@pytest.mark.parametrize("form", ["md", "html"])
def test_export_writes_a_new_private_file_with_the_selection(session: Any, form: str, tmp_path: Path):
    commands, flows = session
    target = tmp_path / f"calls.{form}"
    commands.call("gateway.export", form, [flows[0], tflow.tflow(resp=True)], str(target))
    text = target.read_text()
    assert PROMPT in text
    assert "I will look at the project" in text
    assert "In one sentence" not in text
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(exceptions.CommandError, match="File exists"):
        commands.call("gateway.export", form, flows[:1], str(target))
    with pytest.raises(exceptions.CommandError, match="no model call"):
        commands.call("gateway.export", form, [tflow.tflow(resp=True)], str(tmp_path / "none"))
    assert commands.call("gateway.export.forms") == ["md", "html"]


def test_completion_knows_forms_flows_and_paths(session: Any):
    commands, _ = session
    _, remaining = commands.parse_partial("gateway.export ")
    assert [str(parameter) for parameter in remaining] == ["form", "flows", "path"]
    assert [parameter.type.__name__ for parameter in remaining[1:]] == ["Sequence", "Path"]
    assert remaining[0].type.options_command == "gateway.export.forms"
