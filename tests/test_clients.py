"""Who is calling: clients, their sessions and agents."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api.base import RequestFacts, ToolResult
from gateway_addon.clients import (
    AGENT_HEADERS,
    MAX_ID,
    OPENING,
    PARENT_HEADERS,
    SESSION_HEADERS,
    TOOL_DURATIONS,
    Client,
    betas,
    identify,
    is_subscription,
    with_durations,
    with_own_prompts,
)
from gateway_addon.wire.headers import Headers

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def client_of(headers: dict[str, str], system_prompt: str | None = None) -> tuple[str | None, str | None]:
    told = identify(Headers(headers), None, RequestFacts(system_prompt=system_prompt))
    return told.client, told.client_version


@pytest.mark.parametrize(
    ("user_agent", "client", "version"),
    [
        ("claude-cli/2.1.86 (external, cli)", "claude-code", "2.1.86"),
        ("codex_cli_rs/0.124.0 (Linux 6.1; x86_64) tmux", "codex", "0.124.0"),
        ("codex_exec/0.124.0", "codex", "0.124.0"),
        ("codex_vscode/0.5.1-beta.2", "codex", "0.5.1-beta.2"),
        ("codex-tui/1.0", "codex", "1.0"),
        ("opencode/1.2.3 ai-sdk/provider-utils/4.0.1 runtime/bun/1.3", "opencode", "1.2.3"),
        ("Kilo-Code/4.140.0", "kilo-code", "4.140.0"),
        ("opencode-kilo-provider", "kilo-code", None),
        ("opencode/1.2.3 opencode-kilo-provider", "kilo-code", None),
        ("kilo/latest/7.7.7/cli ai-sdk/provider-utils/4.0.27 runtime/bun/1.3.14", "kilo-code", "7.7.7"),
        ("Cline/3.20.0", "cline", "3.20.0"),
        ("QwenCode/0.24.4 (linux; x64)", "qwen-code", "0.24.4"),
        ("pi/1.5.2 (linux; node/v24.21.0; x64)", "pi", "1.5.2"),
        ("raspberry-pi/5.0", None, None),
        ("RooCode/3.25.1", "roo-code", "3.25.1"),
        ("Cursor/1.4", "cursor", "1.4"),
        ("GitHubCopilotChat/0.30.2", "copilot", "0.30.2"),
        ("OpenAI/Python 1.66.0", "openai-sdk", "1.66.0"),
        ("AsyncOpenAI/Python 1.66.0", "openai-sdk", "1.66.0"),
        ("OpenAI/JS 5.1.0", "openai-sdk", "5.1.0"),
        ("Agents/Python 0.2.1", "openai-sdk", "0.2.1"),
        ("Anthropic/JS 0.60.0", "anthropic-sdk", "0.60.0"),
        ("AnthropicBedrock/Python 0.49.0", "anthropic-sdk", "0.49.0"),
        ("AsyncAnthropicVertex/Python 0.49.0", "anthropic-sdk", "0.49.0"),
        ("AnthropicFoundry/JS 0.60.0", "anthropic-sdk", "0.60.0"),
        ("AsyncAzureOpenAI/Python 1.66.0", "openai-sdk", "1.66.0"),
        ("AsyncAnthropic/Python 0.49.0", "anthropic-sdk", "0.49.0"),
        ("ai-sdk/anthropic/2.0.9 runtime/bun/1.3", "ai-sdk", "2.0.9"),
        ("ai/5.0.1 ai-sdk/provider-utils/3.0.0", "ai-sdk", "5.0.1"),
        ("OPENCODE/1.0", "opencode", "1.0"),
        ("claude-cli/dev build 3", "claude-code", None),
        ("litellm/1.80.0", None, None),
        ("curl/8.5", None, None),
        ("not-opencode/1.0", None, None),
        ("fetcher/1.0 (+https://x.ai/bots)", None, None),
        ("", None, None),
    ],
)
def test_user_agent(user_agent, client, version):
    assert client_of({"user-agent": user_agent}) == (client, version)


@pytest.mark.parametrize(
    ("headers", "client", "version"),
    [
        ({"x-app": "cli"}, "claude-code", None),
        ({"x-app": "cli-bg"}, "claude-code", None),
        ({"x-app": "client-of-mine"}, None, None),
        ({"anthropic-beta": "context-1m,claude-code-20250219"}, "claude-code", None),
        ({"anthropic-beta": "not-claude-code-20250219"}, None, None),
        ({"x-claude-code-request-class": "main"}, "claude-code", None),
        ({"x-claude-code-session-id": UUID}, "claude-code", None),
        ({"originator": "codex_cli_rs"}, "codex", None),
        ({"x-opencode-session": "ses_1"}, "opencode", None),
        ({"x-opencode-session-id": "ses_1"}, "opencode", None),
        ({"x-opencode-session": "ses_1", "x-kilo-session": "ses_1"}, "kilo-code", None),
        ({"x-kilocode-mode": "code", "x-kilocode-version": "4.140.0"}, "kilo-code", "4.140.0"),
        ({"x-kilocode-taskid": UUID, "user-agent": "Kilo-Code/4.140.0"}, "kilo-code", "4.140.0"),
        ({"http-referer": "https://kilocode.ai"}, "kilo-code", None),
        ({"x-title": "Kilo Code"}, "kilo-code", None),
        ({"x-roo-task-id": UUID}, "roo-code", None),
        ({"referer": "https://github.com/RooVetGit/Roo-Cline"}, "roo-code", None),
        ({"referer": "https://cline.bot"}, "cline", None),
        ({"x-openrouter-title": "Cline"}, "cline", None),
        ({"x-title": "Not Cline"}, None, None),
        ({"http-referer": "https://aider.chat/", "x-title": "Aider"}, "aider", None),
        ({"copilot-integration-id": "vscode-chat"}, "copilot", None),
        ({"user-agent": "OpenAI/JS 5.1.0", "x-title": "Cline"}, "cline", None),
        pytest.param({"x-title": "KILO CODE"}, "kilo-code", None, id="a value in odd case"),
    ],
)
def test_headers_of_a_client(headers, client, version):
    assert client_of(headers) == (client, version)


@pytest.mark.parametrize(
    ("system_prompt", "client"),
    [
        ("You are Cline, a helper for software.", "cline"),
        ("You are Kilo, a helper for software.", "kilo-code"),
        ("You are OpenCode.", "opencode"),
        ("You are opencode, a tool.", "opencode"),
        ("\n Act as an expert software developer.\nAlways …", "aider"),
        ("x-anthropic-billing-header: cc_version=2.1.128; cch=1;\nBe brief.", "claude-code"),
        ("Be brief. You are Cline.", None),
        ("", None),
    ],
)
def test_first_words_of_the_system_prompt(system_prompt, client):
    assert client_of({}, system_prompt) == (client, None)


def test_the_system_prompt_goes_before_the_user_agent_of_an_sdk():
    assert client_of({"user-agent": "ai-sdk/anthropic/2.0.9 runtime/bun"}, "You are Cline.") == ("cline", None)


def test_a_client_of_its_own_name_goes_before_the_system_prompt():
    assert client_of({"user-agent": "opencode/1.2.3"}, "You are Cline.") == ("opencode", "1.2.3")


BORROWED = [{"anthropic-beta": "context-1m, claude-code-20250219"}, {"x-app": "cli"}]


@pytest.mark.parametrize("borrowed", BORROWED)
@pytest.mark.parametrize(
    ("headers", "system_prompt", "client"),
    [
        ({"user-agent": "opencode/1.1.23 ai-sdk/anthropic/2.0.57"}, None, "opencode"),
        ({"user-agent": "Kilo-Code/4.140.0"}, None, "kilo-code"),
        ({"user-agent": "ai-sdk/anthropic/2.0.57"}, "You are OpenCode, a tool.", "opencode"),
        ({}, "You are Kilo, a tool.", "kilo-code"),
        ({"x-opencode-session": "ses_1"}, None, "opencode"),
        ({"user-agent": "ai-sdk/anthropic/2.0.57"}, "Be brief.", "ai-sdk"),
        ({"user-agent": "claude-cli/2.1.332"}, None, "claude-code"),
        ({"user-agent": "curl/8.5"}, "Be brief.", "claude-code"),
    ],
)
def test_what_is_named_after_one_client_tells_only_where_nothing_else_does(borrowed, headers, system_prompt, client):
    assert client_of(headers | borrowed, system_prompt)[0] == client


BODY: dict[str, Any] = {
    "session_id": "of-openrouter",
    "client_metadata": {"session_id": "of-codex"},
    "prompt_cache_key": "of-the-cache",
    "promptCacheKey": "of-the-cache-in-camel-case",
    "conversation": {"id": "of-the-conversation"},
    "metadata": {
        "user_id": json.dumps({"device_id": "d", "account_uuid": "", "session_id": "of-the-user-id"}),
        "session_id": "of-the-metadata",
        "conversation_id": "of-the-metadata-too",
    },
}
PLACES = [  # by precedence
    ("of-openrouter", ("session_id",)),
    ("of-the-user-id", ("metadata", "user_id")),
    ("of-codex", ("client_metadata",)),
    ("of-the-cache", ("prompt_cache_key",)),
    ("of-the-cache-in-camel-case", ("promptCacheKey",)),
    ("of-the-conversation", ("conversation",)),
    ("of-the-metadata", ("metadata", "session_id")),
    ("of-the-metadata-too", ("metadata", "conversation_id")),
]


def test_session_in_the_body_by_precedence():
    body = json.loads(json.dumps(BODY))
    for session, (*path, last) in PLACES:
        assert identify(Headers({}), body, RequestFacts()).session_id == session
        place = body
        for step in path:
            place = place[step]
        del place[last]
    assert identify(Headers({}), body, RequestFacts()).session_id is None


@pytest.mark.parametrize(
    ("header", "column"),
    [(SESSION_HEADERS[0], "session_id"), (AGENT_HEADERS[0], "agent_id"), (PARENT_HEADERS[0], "parent_agent_id")],
)
def test_an_id_has_a_bound(header: str, column: str):
    client = identify(Headers({header: "x" * 60_000}), {}, RequestFacts())
    assert getattr(client, column) == "x" * MAX_ID


@pytest.mark.parametrize("header", SESSION_HEADERS)
def test_session_in_a_header_goes_before_the_body(header):
    assert identify(Headers({header: UUID}), BODY, RequestFacts()).session_id == UUID


@pytest.mark.parametrize(
    ("sent", "session"),
    [
        ("title-ses_de6dae", "ses_de6dae"),
        ("ses_de6dae", "ses_de6dae"),
        ("my-session", "my-session"),
        ("-ses_", "-ses_"),
    ],
)
def test_what_a_request_is_for_is_no_part_of_its_sessions_id(sent: str, session: str):
    assert identify(Headers({"x-session-id": sent}), None, RequestFacts()).session_id == session


def test_a_clients_own_session_header_goes_before_the_general_one():
    assert (
        identify(Headers({"x-session-id": "general", "x-opencode-session": "own"}), None, RequestFacts()).session_id
        == "own"
    )


@pytest.mark.parametrize(
    ("body", "session"),
    [
        ({"conversation": "conv_1"}, "conv_1"),
        ({"conversation": {}}, None),
        ({"prompt_cache_key": 7}, None),
        ({"session_id": "", "prompt_cache_key": "k"}, "k"),
        ({"previous_response_id": "resp_1"}, None),
        pytest.param({"user": "ann", "safety_identifier": "ann"}, None, id="a-person-is-no-session"),
        (None, None),
    ],
)
def test_odd_bodies(body, session):
    assert identify(Headers({}), body, RequestFacts()).session_id == session


@pytest.mark.parametrize(
    ("user_id", "session", "parent"),
    [
        pytest.param(json.dumps({"session_id": UUID}), UUID, None, id="JSON"),
        pytest.param(json.dumps({"session_id": UUID, "parent_session_id": "p"}), UUID, "p", id="JSON with a parent"),
        pytest.param(f"user_{'0a' * 32}_account_{UUID}_session_{UUID}", UUID, None, id="old"),
        pytest.param(f"user_{'0a' * 32}_account__session_{UUID}", UUID, None, id="old, without an account"),
        pytest.param(f"user_x_account__session_{UUID}", None, None, id="not quite old"),
        pytest.param("ann", None, None, id="opaque"),
        pytest.param('["session_id"]', None, None, id="JSON of another shape"),
        pytest.param(json.dumps({"session_id": 7}), None, None, id="JSON of another type"),
        pytest.param({"session_id": UUID}, None, None, id="no-string"),
    ],
)
def test_user_id_of_claude_code(user_id, session, parent):
    told = identify(Headers({}), {"metadata": {"user_id": user_id}}, RequestFacts())
    assert (told.session_id, told.parent_agent_id) == (session, parent)


def test_sub_agent_of_claude_code():
    headers = {
        "x-claude-code-session-id": "s",
        "x-claude-code-agent-id": "a",
        "x-claude-code-parent-agent-id": "p",
    }
    assert identify(Headers(headers), None, RequestFacts()) == Client(
        client="claude-code", session_id="s", agent_id="a", parent_agent_id="p"
    )


@pytest.mark.parametrize(
    ("headers", "body", "agent", "parent"),
    [
        pytest.param({"session-id": "s", "thread-id": "s"}, {}, None, None, id="main-thread"),
        pytest.param(
            {"session-id": "s", "thread-id": "t", "x-codex-parent-thread-id": "s"}, {}, "t", "s", id="sub-agent"
        ),
        pytest.param({}, {"client_metadata": {"session_id": "s", "thread_id": "t"}}, "t", None, id="in-the-body"),
        pytest.param(
            {},
            {"client_metadata": {"session_id": "s", "thread_id": "t", "x-codex-parent-thread-id": "s"}},
            "t",
            "s",
            id="a-header-in-the-body",
        ),
        pytest.param(
            {"x-codex-turn-metadata": '{"session_id": "s", "thread_id": "t"}'}, {}, "t", None, id="in-the-metadata"
        ),
    ],
)
def test_threads_of_codex(headers, body, agent, parent):
    told = identify(Headers(headers), body, RequestFacts())
    assert (told.session_id, told.agent_id, told.parent_agent_id) == ("s", agent, parent)


@pytest.mark.parametrize("header", AGENT_HEADERS)
def test_agent_header(header):
    assert identify(Headers({header: "a"}), None, RequestFacts()).agent_id == "a"


@pytest.mark.parametrize("header", PARENT_HEADERS)
def test_parent_header(header):
    assert identify(Headers({header: "p"}), None, RequestFacts()).parent_agent_id == "p"


@pytest.mark.parametrize(
    ("headers", "side_request"),
    [
        ({"x-claude-code-request-class": "main"}, None),
        ({"x-claude-code-request-class": "subagent"}, None),
        ({"x-claude-code-request-class": "workflow"}, None),
        ({"x-claude-code-request-class": "compaction"}, "compaction"),
        ({"x-claude-code-request-class": "auxiliary"}, "auxiliary"),
        ({"x-claude-code-request-class": "side_reply"}, "side_reply"),
        ({"x-claude-code-auxiliary-type": "memory_save"}, "memory"),
        ({"x-claude-code-request-class": "auxiliary", "x-claude-code-auxiliary-type": "memory_save"}, "memory"),
        ({"x-claude-code-auxiliary-type": "session_title"}, "title"),
        ({"x-claude-code-auxiliary-type": "something_else"}, "auxiliary"),
        ({"x-openai-subagent": "review"}, None),
        ({"x-openai-subagent": "compact"}, "compaction"),
        ({"x-openai-subagent": "memory_consolidation"}, "memory"),
    ],
)
def test_side_request_as_the_client_calls_it(headers, side_request):
    assert identify(Headers(headers), None, RequestFacts()).side_request == side_request


@pytest.mark.parametrize(
    ("metadata", "side_request"),
    [
        ({"request_kind": "turn"}, None),
        ({"request_kind": "prewarm"}, "warmup"),
        ({"request_kind": "compaction"}, "compaction"),
        ({"request_kind": "memory", "thread_source": "user"}, "memory"),
        ({"request_kind": "something_else"}, None),
        ({"request_kind": ["memory"]}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize(
    "send",
    [
        pytest.param(lambda told: ({"x-codex-turn-metadata": json.dumps(told)}, {}), id="header"),
        pytest.param(lambda told: ({}, {"client_metadata": told}), id="body"),
        pytest.param(lambda told: ({}, {"client_metadata": json.dumps(told)}), id="body, as text"),
        pytest.param(
            lambda told: ({}, {"client_metadata": {"x-codex-turn-metadata": json.dumps(told)}}), id="header in the body"
        ),
    ],
)
def test_side_request_as_codex_calls_it(metadata, side_request, send):
    headers, body = send(metadata)
    assert identify(Headers(headers), body, RequestFacts()).side_request == side_request


@pytest.mark.parametrize(
    ("headers", "name", "kind"),
    [
        ({}, None, None),
        ({"x-claude-code-agent-type": "Explore"}, None, "Explore"),
        ({"x-openai-subagent": "review"}, None, "review"),
        ({"x-codex-turn-metadata": '{"agent_name": "Ada"}'}, "Ada", None),
        ({"x-codex-turn-metadata": '{"agent_name": 7}'}, None, None),
    ],
)
def test_what_the_client_calls_the_agent(headers, name, kind):
    told = identify(Headers(headers), None, RequestFacts())
    assert (told.agent_name, told.agent_type) == (name, kind)


@pytest.mark.parametrize(
    ("told", "durations"),
    [
        ("", [None, None, None]),
        ("Bash=1250;mcp%3Adocs%3Dall=3.5", [1250.0, 3.5, None]),
        pytest.param("Read=10;Bash=7", [7.0, None, None], id="two calls of one name"),
        pytest.param("Bash=10;Bash=7", [None, None, None], id="two durations of one name"),
        pytest.param("Bash=-1;mcp:docs=all=1e9;=;x", [None, None, None], id="no number"),
        pytest.param("Bash=12345678901", [None, None, None], id="years"),
    ],
)
def test_how_long_tools_took_where_one_call_had_the_name(told, durations):
    names = ["Bash", "mcp:docs=all", None] + (["Read", "Read"] if "Read" in told else [])
    sent = RequestFacts(tool_results=[ToolResult(None, name, "done", None) for name in names])
    timed = with_durations(Headers({TOOL_DURATIONS: told}), sent)
    assert [result.duration_ms for result in timed.tool_results] == durations + [None] * (len(names) - 3)


@pytest.mark.parametrize("metadata", ["", "no JSON", "[]", '"memory"', "{" * 10_000])
def test_metadata_of_codex_that_is_none(metadata):
    headers = {"user-agent": "codex_exec/1.0", "x-codex-turn-metadata": metadata}
    assert identify(Headers(headers), {"client_metadata": metadata}, RequestFacts()) == Client("codex", "1.0")


@pytest.mark.parametrize(
    ("headers", "system_prompt", "prompt"),
    [
        ({"user-agent": "claude-cli/2.1.332"}, None, "fix it"),
        ({}, "You are Cline, a helper.", "fix it"),
        ({"anthropic-beta": "claude-code-20250219"}, None, "fix it"),
        pytest.param({"user-agent": "OpenAI/JS 5.1.0"}, None, "<other>noise</other>", id="an SDK is no client"),
        pytest.param({}, None, "<other>noise</other>", id="nothing known"),
    ],
)
def test_a_part_that_is_one_element_is_no_prompt_where_the_client_is_known(headers, system_prompt, prompt):
    facts = RequestFacts(
        system_prompt=system_prompt,
        user_turns=[["<other>noise</other>"], ["fix it"]],
        user_prompt="<other>noise</other>",
        first_prompt="fix it",
    )
    told = with_own_prompts(Headers(headers), facts)
    assert (told.user_prompt, told.first_prompt) == (prompt, "fix it")


@pytest.mark.parametrize(
    ("headers", "host", "path", "expected"),
    [
        pytest.param({"authorization": "Bearer sk-ant-oat01-x"}, "api.anthropic.com", "/v1/messages", True, id="token"),
        pytest.param(
            {"authorization": "bearer sk-ant-oat01-x"}, "api.anthropic.com", "/v1/messages", True, id="scheme"
        ),
        pytest.param(
            {"anthropic-beta": "claude-code-20250219, oauth-2025-04-20"}, "llm.example", "/v1/messages", True, id="beta"
        ),
        pytest.param({"authorization": "Bearer sk-ant-api03-x"}, "api.anthropic.com", "/v1/messages", False, id="key"),
        pytest.param({"anthropic-beta": "no-oauth-here"}, "api.anthropic.com", "/v1/messages", False, id="other-beta"),
        pytest.param({}, "chatgpt.com", "/backend-api/responses", True, id="chatgpt-host"),
        pytest.param({}, "127.0.0.1", "/backend-api/codex/responses", True, id="chatgpt-path"),
        pytest.param({}, "api.openai.com", "/v1/responses", False, id="openai-api"),
        pytest.param({}, "api.z.ai", "/api/coding/paas/v4/chat/completions", True, id="z.ai"),
        pytest.param({}, "API.Z.AI", "/api/coding/paas/v4/chat/completions", True, id="z.ai-in-odd-case"),
        pytest.param({}, "open.bigmodel.cn", "/api/coding/paas/v4/chat/completions", True, id="z.ai-in-china"),
        pytest.param({}, "api.z.ai", "/api/paas/v4/chat/completions", False, id="z.ai-metered"),
        pytest.param({}, "not-z.ai.example", "/api/coding/paas/v4/chat/completions", False, id="another-host"),
        pytest.param({}, "xz.ai", "/api/coding/paas/v4/chat/completions", False, id="a-host-that-ends-alike"),
        pytest.param({}, "api.kimi.com", "/coding/v1/messages", True, id="kimi"),
        pytest.param({}, "api.kimi.com", "/v1/messages", False, id="kimi-elsewhere"),
        pytest.param({}, "api.moonshot.ai", "/v1/chat/completions", False, id="moonshot-metered"),
        pytest.param({}, "coding-intl.dashscope.aliyuncs.com", "/v1/chat/completions", True, id="alibaba"),
        pytest.param({}, "coding.dashscope.aliyuncs.com", "/apps/anthropic/v1/messages", True, id="alibaba-in-china"),
        pytest.param(
            {}, "token-plan.cn-beijing.maas.aliyuncs.com", "/compatible-mode/v1/chat/completions", True, id="token-plan"
        ),
        pytest.param(
            {}, "dashscope-intl.aliyuncs.com", "/compatible-mode/v1/chat/completions", False, id="alibaba-metered"
        ),
        pytest.param({}, "api.minimax.io", "/anthropic/v1/messages", True, id="minimax"),
        pytest.param({"x-api-key": "sk-cp-x"}, "api.minimaxi.com", "/v1/chat/completions", True, id="minimax-key"),
        pytest.param(
            {"x-api-key": "sk-api-x"}, "api.minimax.io", "/anthropic/v1/messages", False, id="minimax-metered"
        ),
        pytest.param({}, "api.minimax.io", "/v1/chat/completions", False, id="minimax-elsewhere"),
        pytest.param({}, "ark.cn-beijing.volces.com", "/api/coding/v3/chat/completions", True, id="volcengine"),
        pytest.param({}, "opencode.ai", "/zen/go/v1/chat/completions", True, id="opencode-go"),
        pytest.param({}, "opencode.ai", "/zen/v1/chat/completions", False, id="opencode-zen"),
    ],
)
def test_subscription(headers, host, path, expected):
    assert is_subscription(Headers(headers), host, path) is expected


ASKED = "Why is the rank of a tie wrong?"


def session_of(client: str = "aider", system: str | None = "Be brief.", first: str | None = ASKED) -> str | None:
    headers = {"x-title": client}
    return identify(Headers(headers), None, RequestFacts(opening_system=system, first_prompt=first)).session_id


class TestSessionByOpening:
    """The session of a client that sends no id: what the conversation began with."""

    def test_is_the_same_for_every_turn(self):
        facts = RequestFacts(opening_system="Be brief.", first_prompt=ASKED, user_prompt="And now fix it.")
        later = RequestFacts(
            opening_system="Be brief.", first_prompt=ASKED, user_prompt="Thanks.", system_prompt="Be brief.\nHurry up."
        )
        assert identify(Headers({}), None, facts).session_id == identify(Headers(), None, later).session_id is not None

    @pytest.mark.parametrize(
        "other", [{"client": "Cline"}, {"system": "Be long."}, {"system": None}, {"first": "Fix the tie."}]
    )
    def test_is_another_where_client_system_prompt_or_first_prompt_are(self, other):
        assert session_of(**other) != session_of()

    @pytest.mark.parametrize(
        "line",
        [
            "x-anthropic-billing-header: cc_version=1; cch=abc;",
            "Today is 2026-11-22.",
            "Today's date: Sun Nov 22 2026",
            "date: 22 November 2026",
            "It is 11/22/2026.",
            "The time is 9:05.",
        ],
    )
    def test_a_line_that_is_another_one_tomorrow_does_not_count(self, line):
        assert session_of(system=f"Be brief.\n{line}") == session_of()

    def test_a_line_with_other_numbers_counts(self):
        assert session_of(system="Be brief.\nYou have 2026 tools.") != session_of()

    def test_is_marked_as_inferred(self):
        assert (session_of() or "").startswith(OPENING)

    def test_an_id_that_was_sent_goes_before_it(self):
        assert identify(Headers({"x-session-id": "s"}), None, RequestFacts(first_prompt=ASKED)).session_id == "s"

    def test_without_a_first_prompt_nothing_is_known(self):
        assert session_of(first=None) is None


def test_the_conversation_is_told_by_its_first_prompt_alone():
    conversations = [
        identify(Headers({}), None, RequestFacts(opening_system=system, first_prompt=first)).conversation_id
        for system, first in [("Be brief.", ASKED), ("Be long.", ASKED), ("Be brief.", "Fix it."), (None, None)]
    ]
    assert conversations[0] == conversations[1] != conversations[2]
    assert conversations[3] is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just('{"session_id": "s"}'),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(list(BODY))
METADATA = st.dictionaries(st.sampled_from(list(BODY["metadata"])), JSON_VALUES)
TEXT = st.none() | st.text(min_size=1)
NAMES = ["user-agent", "x-app", "anthropic-beta", "x-codex-turn-metadata", "x-claude-code-auxiliary-type"]
HEADERS = st.dictionaries(st.sampled_from([*NAMES, *SESSION_HEADERS, *AGENT_HEADERS]), st.text())


FACTS = st.builds(RequestFacts, system_prompt=TEXT, opening_system=TEXT, first_prompt=TEXT)


@given(HEADERS, st.none() | st.dictionaries(KEYS, JSON_VALUES | METADATA), FACTS)
def test_identify_never_raises_and_tells_text_or_nothing(headers, body, facts):
    told = identify(Headers(headers), body, facts)
    for value in (told.client_version, told.session_id, told.agent_id, told.parent_agent_id, told.conversation_id):
        assert value is None or (isinstance(value, str) and value)


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ([], ()),
        ([("anthropic-beta", "a-2025-01-01, b"), ("Anthropic-Beta", "b,c")], ("a-2025-01-01", "b", "c")),
        ([("openai-beta", "responses_multi_agent=v1")], ("responses_multi_agent=v1",)),
        ([("anthropic-beta", "two words, \x1b[31m, ," + "x" * 101)], ()),
    ],
)
def test_betas(headers: list[tuple[str, str]], names: tuple[str, ...]):
    assert betas(Headers(headers)) == names


@pytest.mark.parametrize("other", ["{}And now?", "And now? {}", "{}", "{0}{0}What is this?"])
def test_long_first_prompts_are_told_apart_by_their_ends_and_length(other: str):
    def conversation(prompt: str) -> str | None:
        return identify(Headers({}), None, RequestFacts(first_prompt=prompt)).conversation_id

    pasted = "a line of a log\n" * 20_000
    assert conversation(f"{pasted}What is this?") == conversation(f"{pasted}What is this?")
    assert conversation(f"{pasted}What is this?") != conversation(other.format(pasted))
