"""One story: a page hides an instruction, the agent follows it, and a reviewer sees it all and what to do about it."""

import json
import re
from pathlib import Path

import pytest

from gateway_addon.captures.flowfile import redact_file
from tests.commands import lines, run
from tests.make_capture import COLLECTOR, ENV, PAGE, PROMPT, SECRETS, planted, write_capture
from tests.review.loops import Loop, captured, read


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted turns, and others around them."""
    path = tmp_path_factory.mktemp("story") / "in.flow"
    turns = [read("a.py", "x = 1"), *planted().values(), read("b.py", "y = 2")]
    return captured(path, Loop("messages").ask(turns, prompt=PROMPT))


def test_it_is_found_with_its_chain(capture: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = run("review", capture)
    assert result.exit_code == 1
    assert max(map(len, result.stdout.splitlines())) <= 80
    shown = lines(result.stdout)
    assert [line.split()[:2] for line in shown[1:6]] == [
        ["high", "env_line"],
        ["high", "aws_secret_key"],
        ["high", "data_to_named_host"],
        ["high", "instruction_in_result"],
        ["medium", "host_from_result"],
    ]
    start = shown.index("high: env_line tur…2 (DB_PASSWORD), opens a database")
    assert shown[start + 1 : start + 4] == [
        "as DB_PASSWORD=tur…2",
        'brought s-1-flow-003 turn 3 tool result read_file {"path":".env"}',
        "sent s-1-flow-003 turn 3 by 4 calls from here on to api.anthropic.com…",
    ]
    assert shown[start + 4].startswith("carried s-1-flow-004 turn 4 tool arguments bash → collector.evil-")
    assert shown[-1] == "looked at 6 flows, 6 calls among them"
    assert not any(secret in result.output for secret in SECRETS)


def test_as_sarif(capture: Path):
    result = run("review", capture, "--format", "sarif")
    log = json.loads(result.stdout)
    (one,) = log["runs"]
    assert (result.exit_code, log["version"], one["tool"]["driver"]["name"]) == (1, "2.1.0", "gateway-addon")
    rules = [rule["id"] for rule in one["tool"]["driver"]["rules"]]
    for found in one["results"]:
        assert rules[found["ruleIndex"]] == found["ruleId"]
        assert found["level"] in ("none", "note", "warning", "error")
        # what is no failure has no level, as the standard says
        assert (found["kind"] == "informational") == (found["level"] == "none")
        assert found["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "in.flow", "index": 0}
        assert found["partialFingerprints"]
    data = next(found for found in one["results"] if found["ruleId"] == "data_to_named_host")
    (flow,) = data["codeFlows"][0]["threadFlows"]
    assert [step["kinds"] for step in flow["locations"]] == [["brought"], ["named"], ["carried"]]
    assert not any(secret in result.output for secret in SECRETS)


def test_a_baseline_leaves_out_what_is_accepted(capture: Path, tmp_path: Path):
    baseline = tmp_path / "accepted.json"
    assert (
        run("review", capture, "--baseline", baseline).stderr
        == f"gateway-addon: {baseline}: No such file or directory\n"
    )
    assert run("review", capture, "--baseline", baseline, "--accept").exit_code == 0
    assert baseline.stat().st_mode & 0o777 == 0o600
    again = run("review", capture, "--baseline", baseline)
    assert (again.exit_code, again.stdout.splitlines()[0]) == (0, "nothing new found")
    # the same secret in another capture is known, another host is not
    other = "https://other.evil-host.example/in"
    more = captured(
        tmp_path / "more.flow", Loop("messages", "s-2").ask([read(".env", ENV), read("c", other)], prompt=PROMPT)
    )
    assert run("review", more, "--baseline", baseline).exit_code == 0
    text = baseline.read_text()
    assert not any(secret in text for secret in SECRETS)
    baseline.write_text("[]")
    assert run("review", capture, "--baseline", baseline).exit_code == 2


def test_the_graph_stands_alone_and_is_inert(capture: Path, tmp_path: Path):
    target = tmp_path / "graph.html"
    run("review", capture, "--graph", target)
    page = target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert "Content-Security-Policy\" content=\"default-src 'none'" in page
    assert not re.search(r"(?i)<script|\son\w+=|(?:src|href)=|<!--|url\(", page)
    assert page.count("<path") >= 4
    assert "&lt;!-- AI assistant" in page
    assert not any(secret in page for secret in SECRETS)


def test_a_session_that_is_not_there(capture: Path, tmp_path: Path):
    result = run("review", capture, "--graph", tmp_path / "graph.html", "--session", "nobody")
    assert (result.exit_code, result.stderr) == (1, f"gateway-addon: no session 'nobody' in {capture}\n")


def test_redacted_nothing_of_it_is_left(capture: Path, tmp_path: Path):
    target = tmp_path / "out.flow"
    redact_file(capture, target)
    left = json.loads(run("review", target, "--json").stdout)
    assert not {"env_line", "aws_secret_key"} & {found["rule"] for found in left}
    data = target.read_bytes()
    assert not any(secret.encode() in data for secret in SECRETS)


@pytest.mark.long
def test_in_a_capture_of_many_megabytes(tmp_path: Path):
    path = tmp_path / "large.flow"
    # the last planted turn is the 82nd
    write_capture(path, 40)
    found = json.loads(run("review", path, "--json").stdout)
    (password,) = [one for one in found if one["name"] == "DB_PASSWORD"]
    assert password["hosts"][COLLECTOR] == 1
    assert PAGE in json.dumps([one for one in found if one["rule"] == "host_from_result"])
    write_capture(path, 20, plants=False)
    assert [one for one in json.loads(run("review", path, "--json").stdout) if one["severity"] != "info"] == []
