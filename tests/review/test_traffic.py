"""Stray credentials, bodies sent for nothing, and the list of tool calls that reach out."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.review.findings import Finding
from gateway_addon.review.traffic import _command
from tests.review.planted import KEY, call, found, rules, tool_call

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


class TestStrayCredentials:
    @pytest.mark.parametrize(
        ("kind", "host", "provider", "severity"),
        [
            ("anthropic_key", "api.anthropic.com", "anthropic", None),
            ("anthropic_key", "api.anthropic.com", None, None),
            ("anthropic_key", "openrouter.ai", "openrouter", "high"),
            ("anthropic_key", "notanthropic.com", None, "high"),
            ("openrouter_key", "api.anthropic.com", "anthropic", "high"),
            # `sk-` keys and keys of no known shape belong to whoever is configured
            ("openai_key", "llm.example", "in-house", None),
            ("openai_key", "llm.example", None, "medium"),
            ("credential", "llm.example", "in-house", None),
            ("credential", "llm.example", None, "medium"),
            (None, "llm.example", None, None),
        ],
    )
    def test_at_which_host(self, path: Path, kind: str | None, host: str, provider: str | None, severity: str | None):
        findings = found(path, call(BODY, client_credential=kind, upstream_host=host, provider=provider))
        assert [(finding.rule, finding.severity) for finding in findings] == [
            ("stray_credential", severity) for _ in [severity] if severity
        ]

    def test_one_finding_per_kind_and_host(self, path: Path):
        stray: dict[str, Any] = {"client_credential": "anthropic_key", "upstream_host": "llm.example"}
        (finding,) = found(path, *(call(BODY, number=number, **stray) for number in range(1, 4)))
        assert (finding.count, finding.hosts, finding.first_seen.request_id) == (3, {"llm.example": 3}, "call-1")
        assert (finding.what, finding.first_seen.place) == ("anthropic_key sent to llm.example", "headers")


class TestRefusedBodies:
    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ({"outcome": "http_error", "http_status": 401}, ["refused_body"]),
            ({"outcome": "http_error", "http_status": 404}, ["refused_body"]),
            # it may have been read all the same
            ({"outcome": "http_error", "http_status": 500}, []),
            ({"outcome": "complete", "http_status": 200}, []),
            # by the addon: nothing was sent
            ({"outcome": "rejected", "http_status": 404, "upstream_host": None}, []),
        ],
        ids=["401", "404", "500", "200", "rejected"],
    )
    def test_what_is_a_refusal(self, path: Path, columns: dict[str, Any], expected: list[str]):
        assert rules(found(path, call(BODY, **columns))) == expected

    def test_summed_up_by_host_and_status(self, path: Path):
        refused: dict[str, Any] = {"outcome": "http_error", "http_status": 403, "request_bytes": 1000}
        (finding,) = found(path, call(BODY, **refused), call(BODY, number=2, **refused))
        assert (finding.what, finding.severity) == ("2000 bytes answered with 403", "low")
        assert (finding.count, finding.hosts) == (2, {"api.example": 2})


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
        assert use.what == "bash: curl https://me:pw@a.example/x http://b.example:80"
        assert use.hosts == {"a.example": 1, "b.example": 1}
        assert (use.first_seen.place, use.first_seen.tool, use.first_seen.call_id) == ("tool arguments", "bash", "c-1")

    def test_the_same_again_is_counted(self, path: Path):
        answer = {"tool_calls": [tool_call("bash", {"command": "make"})]}
        (use,) = found(path, *(call(BODY, number=number, answer=answer) for number in range(1, 5)))
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
        assert (use.rule, use.what) == ("shell_tool_call", "bash")

    @given(st.recursive(st.none() | st.integers() | st.text(), lambda values: st.lists(values)))
    def test_any_arguments(self, value: Any):
        for arguments in (json.dumps(value), json.dumps({"command": value}), str(value)):
            command = _command(arguments)
            assert command is None or isinstance(command, str)
