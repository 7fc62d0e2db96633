"""`export`: calls as JSON, a line each; conversations as a file in which nothing lives that a stranger wrote."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.record import Record
from tests.commands import output, run, write
from tests.store.calls import make_content, make_record

HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an attribute": "\" onmouseover='alert(1)' x=\"",
    "an image": '<img src="https://evil.example/x.png" onerror=alert(1)>',
    "an end of what it stands in": "</pre></details></body></html><iframe src='https://evil.example'></iframe>",
    "a link in Markdown": "[click](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "a fence": "```\n# Not a heading\n````\n<b>bold</b>\n`````",
    "a command to a terminal": "\x1b]0;title\x07\x1b[2J\u202ereversed",
    "many lines": "<b>line</b>\n" * 50,
}


def session(text: str) -> list[tuple[Record, Content]]:
    """Every place in which a stranger's text may stand."""
    of = {"session_id": "s", "request_model": text, "agent_id": text, "error_message": text, "error_type": text}
    calls = [ToolCall("1", text, "tool_use", "client", json.dumps({text: text}))]
    body = json.dumps({"system": text, "messages": [{"role": "user", "content": text}]}).encode()
    digest = hashlib.sha256(body).hexdigest()
    results = [ToolResult("1", text, text, True)]
    return [
        (
            make_record(id="a", **of),
            make_content(system_prompt=text, user_prompt=text, answer_text=text, reasoning_text=text, tool_calls=calls),
        ),
        (
            make_record(id="b", started_at="2026-11-22T10:00:01.000Z", request_sha256=digest, **of),
            Content(body=body, answer_text=text, tool_results=results),
        ),
        (make_record(id="c", side_request="title", **of), make_content(answer_text=text)),
    ]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
class TestHostileText:
    def test_in_html_is_text(self, path: Path, text: str):
        write(path, *session(text))
        printed = output("export", path, "s", "--format", "html")
        page = _Page()
        page.feed(printed)
        assert page.tags <= {
            "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "pre", "details", "summary"
        }  # fmt: skip
        assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}
        assert "default-src 'none'" in printed
        assert not set(printed) & set("\x1b\x07\u202e")

    def test_in_markdown_stands_in_fences(self, path: Path, text: str):
        write(path, *session(text))
        printed = output("export", path, "s", "--format", "md")
        outside, fence = [], ""
        for line in printed.splitlines():
            if not fence and (opened := re.fullmatch(r"(`{3,})text", line)):
                fence = opened[1]
            elif fence:
                # a fence ends with as many marks, or more
                fence = "" if re.fullmatch(rf" {{0,3}}{fence}`*\s*", line) else fence
            else:
                outside.append(re.sub(r"`[^`]*`", "", line).strip())
        assert fence == ""
        assert set(outside) <= {"", "#", "##", "### system prompt", "### user", "### assistant", "### tool"}
        assert not set(printed) & set("\x1b\x07\u202e")

    def test_in_json_cannot_steer_a_terminal(self, path: Path, text: str):
        write(path, *session(text))
        printed = output("export", path)
        assert re.fullmatch(r"[\n -~]*", printed)
        assert [json.loads(line)["answer_text"] for line in printed.splitlines()][:1] == [text]


def test_json_has_a_line_for_each_call_oldest_first_with_texts_and_tools(path: Path):
    call = ToolCall("1", "bash", "tool_use", "client", '{"cmd": "ls"}')
    write(
        path,
        (make_record(id="b", started_at="2026-11-22T11:00:00.000Z", client="codex"), make_content()),
        (make_record(id="a", usage={"n": 1}), make_content(tools=["bash"], tool_calls=[call])),
    )
    rows = [json.loads(line) for line in output("export", path).splitlines()]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert (rows[0]["usage"], rows[0]["user_prompt"], rows[0]["tools"]) == ({"n": 1}, "what is new?", ["bash"])
    assert [made["arguments"] for made in rows[0]["tool_calls"]] == ['{"cmd": "ls"}']
    assert [json.loads(line)["id"] for line in output("export", path, "--client", "codex").splitlines()] == ["b"]
    assert [json.loads(line)["id"] for line in output("export", path, "a").splitlines()] == ["a"]
    assert [json.loads(line)["id"] for line in output("export", path, "--limit", 1).splitlines()] == ["b"]


@pytest.mark.parametrize("form", ["md", "html"])
def test_a_session_is_told_by_the_last_call_of_each_conversation(path: Path, form: str):
    def asked(name: str, second: int, *words: str, **columns: Any) -> tuple[Record, Content]:
        messages = [{"role": ("user", "assistant")[n % 2], "content": word} for n, word in enumerate(words)]
        body = json.dumps({"messages": messages}).encode()
        record = make_record(
            id=name, session_id="s", started_at=f"2026-11-22T10:00:0{second}.000Z",
            request_sha256=hashlib.sha256(body).hexdigest(), **columns,
        )  # fmt: skip
        return record, Content(body=body, answer_text=f"answer to {words[-1]}")

    write(
        path,
        asked("a", 0, "first"),
        asked("b", 1, "first", "answer to first", "second"),
        asked("c", 2, "dig deeper", agent_id="helper"),
    )
    printed = output("export", path, "s", "--format", form)
    assert [printed.count(text) for text in ("answer to first", "answer to second", "answer to dig deeper")] == [
        1,
        1,
        1,
    ]
    assert (
        printed.index("main: conversation") < printed.index("answer to second") < printed.index("helper: conversation")
    )


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("--format", "html"), 2),
        (("--format", "md"), 2),
        (("--format", "har"), 2),
        (("nothing-like-it", "--format", "md"), 1),
        (("a", "b"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_exported_is_told_in_one_line(path: Path, arguments: tuple[str, ...], exit_code: int):
    write(path, (make_record(), Content()))
    result = run("export", path, *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (exit_code, "", 1)


def test_the_database_may_be_left_out(path: Path, monkeypatch: pytest.MonkeyPatch):
    write(path, *((make_record(id=name), Content()) for name in ("a", "b")))
    monkeypatch.chdir(path.parent)
    assert len(output("export").splitlines()) == 2
    assert len(output("export", "gateway.db").splitlines()) == 2
    assert len(output("export", "a").splitlines()) == 1
