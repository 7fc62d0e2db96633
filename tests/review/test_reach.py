"""The list of tool calls that run a shell or reach the network, by what they do."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.review.findings import Finding
from gateway_addon.review.reach import command_of
from tests.review.planted import KEY, call, found, rules, tool_call

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


class TestToolUses:
    def uses(self, path: Path, name: str, arguments: Any) -> list[Finding]:
        return found(path, call(BODY, answer={"tool_calls": [tool_call(name, arguments)]}))

    @pytest.mark.parametrize(
        ("name", "arguments", "expected"),
        [
            ("bash", {"command": "ls"}, ["shell_tool_call"]),
            ("run", {"cmd": ["ls", "-l"]}, ["shell_tool_call"]),
            ("shell", {}, ["shell_tool_call"]),
            ("bash", {"command": "cd app && curl -s api.example"}, ["shell_tool_call", "network_tool_call"]),
            ("bash", {"command": "git push"}, ["shell_tool_call", "network_tool_call"]),
            ("bash", {"command": "uv pip install flask"}, ["shell_tool_call", "network_tool_call"]),
            ("bash", {"command": "cat curl.md; echo ssh"}, ["shell_tool_call"]),
            ("web_search", {"query": "weather"}, ["network_tool_call"]),
            ("open_page", {"address": "https://docs.example/x"}, ["network_tool_call"]),
            ("read_file", {"path": "a.py"}, []),
            ("execute_query", {"sql": "select 1"}, []),
        ],
    )
    def test_shell_and_network(self, path: Path, name: str, arguments: Any, expected: list[str]):
        uses = self.uses(path, name, arguments)
        assert rules(uses) == expected
        assert {use.severity for use in uses} <= {"info"}

    def test_a_finding_says_what_was_run_and_where_it_went(self, path: Path):
        *_, use = self.uses(path, "bash", {"command": "curl https://me:pw@a.example/x http://b.example:80"})
        assert use.what == "bash speaks HTTP: curl https://me:pw@a.example/x http://b.example:80"
        assert use.hosts == {"a.example": 1, "b.example": 1}
        assert (use.first_seen.place, use.first_seen.tool, use.first_seen.call_id) == ("tool arguments", "bash", "c-1")

    def test_they_are_grouped_by_what_they_do(self, path: Path):
        commands = ["git status", "git diff", "pip install flask", "npm install left", "ls -l"]
        answer = {"tool_calls": [tool_call("bash", {"command": one}, f"c-{one}") for one in commands]}
        uses = found(path, call(BODY, answer=answer))
        assert [(use.what, use.count) for use in uses] == [
            ("bash runs git: git status; git diff", 2),
            ("bash runs pip: pip install flask", 1),
            ("bash installs packages: pip install flask; npm install left", 2),
            ("bash runs npm: npm install left", 1),
            ("bash runs ls: ls -l", 1),
        ]

    def test_those_of_a_history_count_as_well_and_once(self, path: Path):
        made = {"id": "c-1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "make"}'}}
        resumed = {"model": "m", "messages": [*BODY["messages"], {"role": "assistant", "tool_calls": [made]}]}
        answer = {"tool_calls": [tool_call("bash", {"command": "make"})]}
        (use,) = found(path, call(resumed, answer=answer), call(resumed, number=2))
        assert (use.what, use.count) == ("bash runs make: make", 1)

    def test_the_same_again_is_counted(self, path: Path):
        answers = [{"tool_calls": [tool_call("bash", {"command": "make"}, f"c-{number}")]} for number in range(1, 5)]
        calls = (call(BODY, number=number, answer=answer) for number, answer in enumerate(answers, start=1))
        (use,) = found(path, *calls)
        assert (use.count, use.first_seen.request_id) == (4, "call-1")

    def test_secrets_are_masked_before_it_is_cut_short(self, path: Path):
        use = self.uses(path, "bash", {"command": f"{'# ' * 95}echo {KEY}"})[-1]
        assert use.what.endswith("…")
        assert KEY[:8] not in use.what

    def test_what_the_provider_ran_is_none_of_the_machines(self, path: Path):
        ran = tool_call("web_search", {"query": "weather"})
        ran.executor = "server"
        assert found(path, call(BODY, answer={"tool_calls": [ran]})) == []

    def test_without_stored_arguments_the_name_tells(self, path: Path):
        answer = {"tool_calls": [tool_call("bash", {"command": "ls"})]}
        (use,) = found(path, call(BODY, mode="none", answer=answer))
        assert (use.rule, use.what) == ("shell_tool_call", "bash runs a shell")

    @given(st.recursive(st.none() | st.integers() | st.text(), lambda values: st.lists(values)))
    def test_any_arguments(self, value: Any):
        for arguments in (json.dumps(value), json.dumps({"command": value}), str(value)):
            command = command_of(arguments)
            assert command is None or isinstance(command, str)
