"""Secrets: what counts as one, where it was first seen, how often it was sent where, and that no finding shows it."""

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.test import tflow

from gateway_addon.api.base import ToolResult
from gateway_addon.captures.finder import Finder
from gateway_addon.captures.redaction import Redactor
from gateway_addon.review.secrets import find_in, mask
from gateway_addon.store.database import open_database
from gateway_addon.store.search import index_texts, unindexed_texts
from gateway_addon.wire.sse import EventParser
from tests.bodies import bodies
from tests.review.planted import KEY, PASSWORD, Call, call, findings, found, rules, tool_call, write

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIB9ADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


def chat(*contents: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content} for content in contents]}


CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "chat_completions": [
        {"role": "user", "content": "why does the server not start?"},
        {"role": "assistant", "tool_calls": [
            {"id": "c-7", "type": "function", "function": {"name": "read_file", "arguments": '{"path":".env"}'}}
        ]},
        {"role": "tool", "tool_call_id": "c-7", "content": f"PORT=80\nDB_PASSWORD={PASSWORD}\n"},
    ],
    "responses": [
        {"role": "user", "content": "why does the server not start?"},
        {"type": "function_call", "call_id": "c-7", "name": "read_file", "arguments": '{"path":".env"}'},
        {"type": "function_call_output", "call_id": "c-7", "output": f"PORT=80\nDB_PASSWORD={PASSWORD}\n"},
    ],
    "messages": [
        {"role": "user", "content": "why does the server not start?"},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "c-7", "name": "read_file", "input": {"path": ".env"}}
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c-7", "content": f"PORT=80\nDB_PASSWORD={PASSWORD}\n"}
        ]},
    ],
}  # fmt: skip


def session(kind: str, sends: int, **columns: Any) -> Iterator[Call]:
    """A question, the tool that reads a secret from a file, and `sends` requests with its result."""
    member = "input" if kind == "responses" else "messages"
    question, *tool = CONVERSATIONS[kind]
    further = [{"role": role, "content": f"{role} goes on"} for role in ("assistant", "user")]
    for number in range(sends + 1):
        history = [question, *(tool if number else []), *further * (number - 1)]
        yield call({"model": "m", member: history}, number=number + 1, api_kind=kind, **columns)


class TestFirstSeen:
    @pytest.mark.parametrize("kind", CONVERSATIONS)
    def test_in_the_tool_result_that_brought_it_and_sent_with_every_call_since(self, path: Path, kind: str):
        (secret,) = found(path, *session(kind, 30))
        assert (secret.rule, secret.severity, secret.count, secret.hosts) == (
            "env_line",
            "high",
            30,
            {"api.example": 30},
        )
        seen = secret.first_seen
        assert (seen.request_id, seen.turn) == ("call-2", 2)
        assert (seen.place, seen.tool, seen.call_id) == ("tool result", "read_file", "c-7")

    @pytest.mark.parametrize("kind", CONVERSATIONS)
    def test_in_the_history_that_the_first_recorded_call_brings_along(self, path: Path, kind: str):
        *_, late = session(kind, 20)
        (secret,) = found(path, late)
        seen = secret.first_seen
        assert (seen.request_id, seen.turn, seen.place) == ("call-21", 1, "tool result")
        assert (seen.tool, seen.call_id) == ("read_file", "c-7")

    @pytest.mark.parametrize(
        ("body", "place"),
        [
            (chat(f"my key is {KEY}"), "user prompt"),
            ({"model": "m", "messages": [{"role": "system", "content": KEY}]}, "system prompt"),
            ({"model": "m", "messages": [{"role": "assistant", "content": KEY}]}, "request"),
            ({"model": "m", "messages": [], "metadata": {"note": KEY}}, "request"),
            (f'{{"messages": [ 1,2, {{"content": "{KEY}"}}]}}'.encode(), "request"),
            (b"\xff no JSON " + KEY.encode(), "request"),
        ],
        ids=["user", "system", "history", "envelope", "uneven", "no JSON"],
    )
    def test_anywhere_in_a_request(self, path: Path, body: Any, place: str):
        (secret,) = found(path, call(body))
        assert (secret.first_seen.place, secret.count) == (place, 1)

    @pytest.mark.parametrize(
        ("answer", "place", "tool"),
        [
            ({"answer_text": f"use {KEY}"}, "answer", None),
            ({"reasoning_text": f"use {KEY}"}, "reasoning", None),
            ({"tool_calls": [tool_call("write_file", {"text": KEY})]}, "tool arguments", "write_file"),
            ({"tool_results": [ToolResult("c-1", "web_fetch", KEY, None)]}, "tool result", "web_fetch"),
        ],
        ids=["answer", "reasoning", "arguments", "a server's tool"],
    )
    def test_in_an_answer_before_it_was_ever_sent(
        self, path: Path, answer: dict[str, Any], place: str, tool: str | None
    ):
        first, second = call(chat("one"), answer=answer), call(chat("one", KEY), number=2)
        (secret, *_) = found(path, first, second)
        seen = secret.first_seen
        assert (seen.request_id, seen.place, seen.tool) == ("call-1", place, tool)
        assert secret.count == 1

    @pytest.mark.parametrize("place", bodies(KEY))
    @pytest.mark.parametrize("searched", [False, True])
    def test_wherever_in_a_body_it_stands(self, path: Path, place: str, searched: bool):
        kind, body = bodies(KEY)[place]
        write(path, call(body, api_kind=kind))
        if searched:
            # which adds texts to the database
            with closing(open_database(path)) as db:
                for batch in unindexed_texts(db):
                    index_texts(db, batch)
        # the tools in a history are listed as well
        (secret,) = [finding for finding in findings(path) if not finding.rule.endswith("tool_call")]
        assert (secret.rule, secret.count, secret.hosts) == ("anthropic_key", 1, {"api.example": 1})

    @pytest.mark.parametrize("escape", [r"\u005a", r"\u005A"])
    @pytest.mark.parametrize("shape", ['{"messages": [{"content": "%s"}]}', '{"messages": [ 1,2, {"content": "%s"}]}'])
    def test_in_unusual_escapes(self, path: Path, shape: str, escape: str):
        (secret,) = found(path, call((shape % KEY.replace("Z", escape)).encode()))
        assert secret.count == 1

    def test_in_a_prompt_where_bodies_are_not_stored(self, path: Path):
        (secret,) = found(path, call(chat(f"my key is {KEY}"), mode="prompts"))
        assert (secret.first_seen.place, secret.count) == ("user prompt", 1)

    def test_without_a_session_there_is_no_turn(self, path: Path):
        (secret,) = found(path, call(chat(KEY), session_id=None))
        assert secret.first_seen.turn is None


class TestCounting:
    def test_by_host(self, path: Path):
        calls = [call(chat(KEY), number=n, upstream_host=f"{n % 2}.example") for n in range(1, 6)]
        (secret,) = found(path, *calls)
        assert (secret.count, secret.hosts) == (5, {"1.example": 3, "0.example": 2})

    def test_each_call_once_however_often_it_holds_it(self, path: Path):
        (secret,) = found(path, call(chat(KEY, f"again: {KEY}", json.dumps({"and": KEY}))))
        assert secret.count == 1

    def test_calls_of_all_conversations_with_it_count(self, path: Path):
        # two chains of elements, and a text that stands in a longer one
        calls = [call(chat("one", f"{KEY} {'long ' * 20}")), call(chat("two", f"see {KEY}"), number=2)]
        (secret,) = found(path, *calls)
        assert secret.count == 2

    def test_a_secret_that_another_begins_with_is_not_sent_with_it(self, path: Path):
        secrets = found(path, call(chat(KEY)), call(chat(f"{KEY}2"), number=2), call(chat(f"{KEY}2"), number=3))
        assert sorted(secret.count for secret in secrets) == [1, 2]

    def test_a_value_is_found_again_where_nothing_gives_it_away(self, path: Path):
        (secret,) = found(path, call(chat(f"API_TOKEN={PASSWORD}")), call(chat(f"log in with {PASSWORD}"), number=2))
        assert secret.count == 2

    @pytest.mark.parametrize(
        "columns",
        [
            {"outcome": "rejected", "upstream_host": None},
            {"source": "replay"},
        ],
        ids=["rejected", "replayed by the proxy"],
    )
    def test_what_never_left_counts_for_nothing(self, path: Path, columns: dict[str, Any]):
        (secret,) = found(path, call(chat(KEY), **columns))
        assert (secret.severity, secret.count, secret.hosts) == ("info", 0, {})

    def test_the_prompt_that_a_continued_conversation_leaves_out_is_not_sent_again(self, path: Path):
        asked = call({"model": "m", "input": KEY}, api_kind="responses", response_id="r-1")
        goes_on = call(
            {"model": "m", "input": [], "previous_response_id": "r-1"},
            number=2,
            api_kind="responses",
            previous_id="r-1",
        )
        (secret,) = found(path, asked, goes_on)
        assert secret.count == 1


class TestWhatCounts:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (f"export OPENAI_API_KEY={KEY}", ["env_line"]),
            (f"the key {KEY}, please", ["anthropic_key"]),
            (f"3→SMTP_PASSWORD='{PASSWORD}'", ["env_line"]),
            (f".env:12:SESSION_SECRET={PASSWORD}", ["env_line"]),
            (PEM, ["private_key"]),
            (json.dumps({"file": PEM}), ["private_key"]),
            (f"log: {json.dumps({'file': PEM})}", ["private_key"]),
            (f"psql postgres://app:{PASSWORD}@db/app", ["credential"]),
            (json.dumps({"clientSecret": PASSWORD}), ["credential"]),
            (f"token = '{PASSWORD}'", ["assigned"]),
            # what else may be a part of it is no other secret
            (f"api_key: {KEY}.", ["anthropic_key"]),
            (f"{PEM}\nlog: {json.dumps(json.dumps(PEM))}", ["private_key"]),
            ("API_KEY=$OTHER_KEY_2", []),
            ("API_KEY=${OTHER_KEY_2}", []),
            ("API_KEY=$(pass show key2)", []),
            ("API_KEY=<your-key-goes-here-1>", []),
            ("API_KEY=your-key-goes-here-1", []),
            ("API_KEY=changeme1", []),
            ("API_KEY=short1", []),
            ("API_KEY=xxxxxxxxxxxx1", []),
            ("sk-" + "a" * 40, []),
            ("PORT=8080123456", []),
            ("token = find_token(text)", []),
            ("token = secrets.token_hex(16)", []),
            ("already [redacted:openai_key:0a1b2c3d] and {gateway:openrouter}", []),
        ],
    )
    def test_texts(self, path: Path, text: str, expected: list[str]):
        assert rules(found(path, call(chat(text)))) == expected

    def test_values_of_secret_variables(self, path: Path):
        # which would be none by itself
        value = "an example of mine"
        environment = {"VAULT_PASSWORD": value, "USER": "it says it"}
        secrets = found(path, call(chat(f"it says it: {value}!")), environment=environment)
        assert [(secret.rule, secret.severity) for secret in secrets] == [("environment", "high")]

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("use {}", "twilio_key"),
            ("token = '{}'", "twilio_key"),
            ("TWILIO_KEY={}", "env_line"),
        ],
    )
    def test_of_two_kinds_the_graver_counts(self, path: Path, text: str, rule: str, monkeypatch: pytest.MonkeyPatch):
        token = "SK0a1b2c3d4e5f60718293a4b5c6d7e8f9"
        monkeypatch.setattr(
            "gateway_addon.detectors.tokens", lambda text: {token: "twilio_key"} if token in text else {}
        )
        assert rules(found(path, call(chat(text.format(token))))) == [rule]

    def test_the_gravest_first(self, path: Path):
        secrets = found(path, call(chat(f"token = '{PASSWORD}'", KEY, "postgres://u:kiwi-Custard-77@db")))
        assert [secret.severity for secret in secrets] == ["high", "medium", "low"]


class TestNothingLeaks:
    def test_no_finding_holds_a_secret(self, path: Path):
        command = tool_call("bash", {"command": f"curl -H 'x-api-key: {KEY}' https://u:{PASSWORD}@api.example"})
        write(path, call(chat(f"A_KEY={PASSWORD}", KEY, PEM), answer={"tool_calls": [command], "answer_text": KEY}))
        shown = repr(findings(path))
        for secret in (KEY, PASSWORD, "MIIEvQIB9ADANBgkq"):
            assert secret not in shown
            assert secret[:6] not in shown

    @given(st.text(min_size=1))
    def test_a_mask_shows_less_than_half(self, secret: str):
        shown = mask(secret)
        first, _, last = shown.partition("…") if "…" not in secret else ("", "", "")
        assert len(first) <= 4
        assert len(last) <= 2
        assert len(shown) - 1 <= len(secret) * 3 / 8

    def test_a_long_one_can_be_recognised(self):
        assert mask(KEY) == "sk-a…cL"


class TestFingerprints:
    def test_the_same_in_each_review_of_a_database(self, path: Path):
        (first,) = found(path, call(chat(KEY)))
        (second,) = findings(path)
        assert first == second

    def test_others_in_another_so_that_nobody_can_check_a_guess(self, tmp_path: Path):
        (first,), (second,) = (found(tmp_path / name, call(chat(KEY))) for name in ("a.db", "b.db"))
        assert first.fingerprint != second.fingerprint

    def test_different_secrets_have_different_ones(self, path: Path):
        secrets = found(path, call(chat(KEY, KEY + "x")))
        assert len({secret.fingerprint for secret in secrets}) == 2


TOKENS = [
    KEY,
    PASSWORD,
    PEM,
    "sk-o" + "r-v1-Zq8mW2rT5yB9nK4vX7cL",
    "ghp_" + "Zq8mW2rT5yB9nK4vX7cL",
    "AKIA" + "ZQ8MW2RT5YB9NK4V",
    "xoxb" + "-Zq8mW2rT5yB9",
    "hf_Z" + "q8mW2rT5yB9nK4vX7cL",
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "SK0a" + "1b2c3d4e5f60718293a4b5c6d7e8f9",
]
CONTEXTS = [
    "{}",
    "use {}.",
    "SMTP_PASS={}",
    "export API_KEY='{}'",
    "12→GITHUB_TOKEN={}",
    "token = '{}'",
    "curl -H 'authorization: Bearer {}'",
    "https://u:{}@db.example/app",
    "https://api.example/?key={}&page=2",
    '{{"client_secret": "{}"}}',
    '{{"githubToken": "{}"}}',
    "mytool --token {} -v",
    "SECRET_KEY = '{}'",
    "<password>{}</password>",
    "https://{}@git.example/a.git",
    "aws_secret_access_key = {}",
    "x-vault-token: {}",
    "a=1&auth={}",
]
planted = st.builds(str.format, st.sampled_from(CONTEXTS), st.sampled_from(TOKENS))
lines = st.lists(planted | st.text(max_size=10), min_size=1, max_size=4).map("\n".join)


@given(asked=lines, depth=st.integers(0, 2), said=lines, cuts=st.lists(st.integers(0, 80), max_size=4))
def test_in_what_redaction_has_left_nothing_is_found(asked: str, depth: int, said: str, cuts: list[int]):
    for _ in range(depth):
        asked = json.dumps({"output": asked})
    flow: Any = tflow.tflow(resp=True)
    flow.request.text = json.dumps({"model": "m", "messages": [{"role": "user", "content": asked}]})
    places = [0, *sorted(min(at, len(said)) for at in cuts), len(said)]
    deltas = [said[start:end] for start, end in pairwise(places)]
    events = [{"choices": [{"index": 0, "delta": {"content": delta}}]} for delta in deltas]
    flow.response.headers["content-type"] = "text/event-stream"
    flow.response.content = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    redactor = Redactor(Finder(b"a key for tests"))
    redactor.learn(flow.get_state())
    left = redactor.redact(flow.get_state())
    data = [json.loads(event.data) for event in EventParser().feed(left["response"]["content"])]
    answer = "".join(event["choices"][0]["delta"]["content"] for event in data)
    assert find_in([left["request"]["content"].decode(), answer], {}) == {}
