"""Flow files that are whole, damaged or something else, and copies of them that hold no secret."""

import json
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mitmproxy import exceptions
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowWriter, tnetstring
from mitmproxy.test import taddons, tflow
from mitmproxy.version import FLOW_FORMAT_VERSION

from gateway_addon.captures import flowfile
from gateway_addon.captures.flowfile import FlowFileError
from gateway_addon.cli import main
from gateway_addon.proxy.hooks import GatewayAddon
from gateway_addon.wire import encodings
from tests.client import PATHS, Call, request_body
from tests.mitmdump import Mitmdump, read_flows, rows, run_on_file
from tests.provider import Provider
from tests.provider import delivery as d
from tests.provider.delivery import Delivery
from tests.provider.replies import says
from tests.provider.scenarios import LONG, OVERLOADED, PARALLEL, Scenario

PLANTED = {
    "header": "planted-header-0001",
    "cookie": "planted-cookie-0002",
    "query": "planted-query-0003",
    "member": "planted-member-0004",
    "shape": "sk-ant-planted-0005",
    "environment": "plantedenvironment",
}


def save(path: Path, flows: Sequence[Flow]) -> Path:
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for flow in flows:
            writer.add(flow)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(tmp_path / "three.flow", [tflow.tflow(resp=True) for _ in range(3)])


def read_until_error(path: Path) -> tuple[int, str]:
    """How many flows are given before the error, and its text."""
    flows: list[Flow] = []
    with pytest.raises(FlowFileError) as caught:
        flows.extend(flowfile.read(path))
    return len(flows), str(caught.value)


def test_flows_are_read_in_order_and_again_by_their_place(saved: Path):
    places = [(offset, flow.id) for offset, flow in flowfile.read_with_offsets(saved)]
    assert [id_ for _, id_ in places] == [flow.id for flow in read_flows(saved)]
    assert [flowfile.read_at(saved, offset).id for offset, _ in reversed(places)] == [
        id_ for _, id_ in reversed(places)
    ]


def test_progress_adds_up_to_the_size_of_the_file(saved: Path):
    told: list[int] = []
    list(flowfile.read(saved, told.append))
    assert len(told) == 3
    assert sum(told) == saved.stat().st_size


@pytest.mark.parametrize("cut", [1, 100])
def test_a_file_that_is_cut_off_gives_its_whole_flows_first(saved: Path, cut: int):
    saved.write_bytes(saved.read_bytes()[:-cut])
    assert read_until_error(saved) == (2, f"{saved}: cut off after 2 whole flows")


def test_a_file_that_is_damaged_in_the_middle_gives_the_flows_before(saved: Path):
    second = [offset for offset, _ in flowfile.read_with_offsets(saved)][1]
    data = bytearray(saved.read_bytes())
    data[second + 10 : second + 20] = b"\xff" * 10
    saved.write_bytes(data)
    assert read_until_error(saved) == (1, f"{saved}: damaged after 1 whole flow")


@pytest.mark.parametrize(
    "content", [b"hello\n", b"\x00\x01\x02" * 50, b'{"no": "HAR"}', b"999999999999:", b"4:true!", b"3:abc"], ids=repr
)
def test_something_else_is_no_flow_file(tmp_path: Path, content: bytes):
    path = tmp_path / "other"
    path.write_bytes(content)
    assert read_until_error(path) == (0, f"{path}: is no flow file, or is cut off in its first flow")


def test_a_file_of_a_newer_mitmproxy_is_told_apart(tmp_path: Path):
    state = tflow.tflow().get_state() | {"version": FLOW_FORMAT_VERSION + 1}
    path = tmp_path / "newer.flow"
    path.write_bytes(tnetstring.dumps(state))
    assert read_until_error(path) == (0, f"{path}: written by a newer mitmproxy, please update")


def test_a_file_of_an_older_format_is_converted(tmp_path: Path):
    state = tflow.tflow().get_state() | {"version": 20}
    path = tmp_path / "older.flow"
    path.write_bytes(tnetstring.dumps(state))
    assert [flow.id for flow in flowfile.read(path)] == [state["id"]]


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path):
    assert read_until_error(tmp_path / "none") == (0, f"{tmp_path / 'none'}: No such file or directory")
    assert read_until_error(tmp_path) == (0, f"{tmp_path}: is no regular file")


# ---- Redacted copies ----


def secret_flow(encoding: str) -> HTTPFlow:
    """A flow with every secret of `PLANTED` in every place there is; `websocket` is one that holds messages."""
    text = " ".join(PLANTED.values())
    body = json.dumps({"client_secret": PLANTED["member"], "packed": json.dumps({"said": text})})
    cut = text.index(PLANTED["cookie"]) + 9
    parts = (f"{text} again: {text[:cut]}", text[cut:])
    deltas = [json.dumps({"type": "content_block_delta", "index": 0, "delta": {"text": part}}) for part in parts]

    flow = tflow.twebsocketflow() if encoding == "websocket" else tflow.tflow(resp=True, err=True)
    flow.request.path = f"/v1/messages?beta=true&token={PLANTED['query']}&say={PLANTED['member']}"
    flow.request.text = body
    flow.comment = text
    flow.backup()
    for message in filter(None, (flow.request, flow.response)):
        message.headers["authorization"] = f"Bearer {PLANTED['header']}"
        message.headers["cookie"] = f"sid={PLANTED['cookie']}"
        message.headers["x-note"] = text
        if encoding != "websocket":
            message.headers["content-encoding"] = encoding
            answer = "".join(f": {text}\ndata: {delta}\n\n" for delta in deltas)
            message.raw_content = encodings.encode((body if message is flow.request else answer).encode(), encoding)
    if flow.websocket:
        for websocket_message, content in zip(flow.websocket.messages, [body, *deltas], strict=True):
            websocket_message.content = content.encode()
    if flow.error:
        flow.error.msg = text
    flow.comment = flow.marked = text
    flow.metadata["gateway"] = {"error_message": text, "usage": json.dumps({"note": text})}
    return flow


def everything_in(path: Path) -> str:
    """All a flow file holds, its encoded bodies decoded as well."""
    found = [path.read_bytes()]
    for flow in read_flows(path):
        states = [flow.get_state()]
        states += [state["backup"] for state in states if state["backup"]]
        for message in (state[side] for state in states for side in ("request", "response")):
            headers = dict(message["headers"]) if message else {}
            encoding = headers.get(b"content-encoding", b"").decode()
            if message and message["content"]:
                found.append(encodings.decode(message["content"], encoding, 1_000_000))
    return b"\n".join(found).decode(errors="replace")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_SERVICE_PASSWORD", PLANTED["environment"])


@pytest.mark.usefixtures("environment")
def test_no_planted_secret_survives_anywhere(tmp_path: Path):
    flows = [
        secret_flow(encoding) for encoding in ("identity", "gzip", "deflate", "br", "zstd", "gzip, br", "websocket")
    ]
    source, target = save(tmp_path / "in.flow", flows), tmp_path / "out.flow"
    assert all(secret in everything_in(source) for secret in PLANTED.values())
    result = CliRunner().invoke(main, ["redact", str(source), str(target)])
    assert (result.exit_code, result.stderr) == (0, "")
    first, replaced = result.stdout.splitlines()
    assert first == f"{target}: 7 flows, {len(PLANTED)} different secrets replaced"
    assert replaced.startswith("  replaced: ")
    assert sum(map(int, re.findall(r"\d+(?= )", replaced))) == len(PLANTED)
    left = everything_in(target)
    assert [secret for secret in PLANTED.values() if secret in left] == []
    assert "planted" not in left
    placeholders = set(re.findall(r"\[redacted:\w+:\w{8}\]", left))
    assert len(placeholders) == len(PLANTED)


def test_a_copy_is_for_its_owner_only_and_replaces_what_was_there(saved: Path, tmp_path: Path):
    target = tmp_path / "out.flow"
    target.write_text("old")
    assert flowfile.redact_file(saved, target, force=True) == "3 flows, 0 different secrets replaced"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(read_flows(target)) == 3


def test_the_original_cannot_be_lost(saved: Path, tmp_path: Path):
    """Not even under another name."""
    data = saved.read_bytes()
    (tmp_path / "hard").hardlink_to(saved)
    (tmp_path / "soft").symlink_to(saved)
    for target in (saved, tmp_path / "hard", tmp_path / "soft", tmp_path / "." / saved.name):
        with pytest.raises(FlowFileError, match=r": is the file that is read$"):
            flowfile.redact_file(saved, target, force=True)
    assert saved.read_bytes() == data


def test_what_is_there_already_is_replaced_only_if_asked(saved: Path, tmp_path: Path):
    target = tmp_path / "out.flow"
    target.write_text("old")
    arguments = ["redact", str(saved), str(target)]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr) == (
        2,
        f"gateway-addon: {target}: is there already; --force replaces it\n",
    )
    assert target.read_text() == "old"
    assert CliRunner().invoke(main, [*arguments, "--force"]).exit_code == 0
    assert len(read_flows(target)) == 3


def test_only_a_regular_file_is_ever_replaced(saved: Path, tmp_path: Path):
    pipe, link, folder, protected = (tmp_path / name for name in ("pipe", "link", "folder", "protected"))
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "nothing")
    folder.mkdir()
    protected.touch(0o400)
    before = {path: path.lstat().st_mode for path in (pipe, link, folder, protected)}
    for target, trouble in (
        (pipe, "is no regular file"),
        (link, "is a link"),
        (folder, "is no regular file"),
        (protected, "is write-protected"),
        (Path("/dev/null"), "is no regular file"),
    ):
        with pytest.raises(FlowFileError, match=f"^{target}: {trouble}$"):
            flowfile.redact_file(saved, target, force=True)
    assert {path: path.lstat().st_mode for path in before} == before


def test_a_damaged_file_leaves_no_copy(saved: Path, tmp_path: Path):
    saved.write_bytes(saved.read_bytes()[:-10])
    target = tmp_path / "out.flow"
    target.write_text("old")
    result = CliRunner().invoke(main, ["redact", "--force", str(saved), str(target)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"gateway-addon: {saved}: cut off after 2 whole flows\n"
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.flow", "three.flow"]


def test_an_interrupted_copy_leaves_nothing(saved: Path, tmp_path: Path):
    told: list[int] = []

    def interrupt(size: int) -> None:
        told.append(size)
        if len(told) == 5:  # in the second reading
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flowfile.redact_file(saved, tmp_path / "out.flow", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["three.flow"]


def test_a_copy_that_cannot_be_written_is_one_line(saved: Path, tmp_path: Path):
    result = CliRunner().invoke(main, ["redact", str(saved), str(tmp_path / "no" / "out.flow")])
    assert result.exit_code == 2
    assert result.stderr == f"gateway-addon: {tmp_path / 'no' / 'out.flow'}: No such file or directory\n"


def test_a_rule_file_is_taken_from_the_command_line(tmp_path: Path):
    flow = tflow.tflow()
    flow.comment = "see ACME-17"
    source = save(tmp_path / "in.flow", [flow])
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rules]]\nname = 'ticket'\nregex = 'ACME-\\d+'\n")
    target = tmp_path / "out.flow"
    arguments = ["redact", str(source), str(target), "--rules"]
    assert CliRunner().invoke(main, [*arguments, str(rules)]).exit_code == 0
    assert read_flows(target)[0].comment.startswith("see [redacted:ticket:")

    rules.write_text("[[rules]\n")
    result = CliRunner().invoke(main, [*arguments, str(rules)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"gateway-addon: {rules}: ")
    assert CliRunner().invoke(main, [*arguments, str(tmp_path / "none")]).exit_code == 2


@pytest.mark.usefixtures("environment")
def test_flows_are_redacted_inside_of_mitmproxy():
    addon = GatewayAddon()
    with taddons.context(addon, loadcore=False) as context:
        flows = [secret_flow("gzip"), secret_flow("websocket")]
        flows[0].live = flows[1].live = False
        context.master.commands.call("gateway.redact", flows)
        assert "planted" not in repr([flow.get_state() for flow in flows])
        assert flows[0].response
        assert "[redacted:" in (flows[0].response.text or "")
        assert "planted" not in (flows[0].response.text or "")
        flows[1].live = True
        with pytest.raises(exceptions.CommandError, match="still under way"):
            context.master.commands.call("gateway.redact", flows)
        with pytest.raises(exceptions.CommandError, match="No such file"):
            context.master.commands.call("gateway.redact", flows[:1], "none.toml")


# ---- The rows that a redacted file gives ----

TEXT = f"The key is {PLANTED['shape']}. {LONG.text} It is still {PLANTED['shape']}."
ANSWER = replace(PARALLEL, text=TEXT)
SCENARIOS = {
    "gzip": Scenario("", says(ANSWER), Delivery(encodings=("gzip",))),
    "br": Scenario("", says(ANSWER), Delivery(encodings=("br",))),
    "zstd": Scenario("", says(ANSWER), Delivery(encodings=("zstd",))),
    "two codings": Scenario("", says(ANSWER), Delivery(encodings=("gzip", "br"))),
    "corrupt": Scenario("", says(ANSWER), Delivery(encodings=("gzip",), corrupt=True)),
    "cut": Scenario("", says(ANSWER), Delivery(edit=d.in_halves, framing="chunked", cut_after=20)),
    "cut by length": Scenario("", says(ANSWER), Delivery(edit=d.in_halves, framing="length", cut_after=20)),
    "cut zstd": Scenario("", says(ANSWER), Delivery(encodings=("zstd",), cut_after=20)),
    "mixed line ends": Scenario("", says(ANSWER), Delivery(edit=d.mixed_line_ends)),
    "two data lines": Scenario("", says(ANSWER), Delivery(edit=d.two_data_lines)),
    "error": Scenario("", says(replace(ANSWER, error=replace(OVERLOADED, place="middle", message=TEXT)))),
}
TEXT_COLUMNS = {"run_id", "response_bytes", "request_bytes", "request_sha256", "error_message"}


def test_a_redacted_file_gives_the_same_rows(provider: Provider, confdir: Path, tmp_path: Path):
    source, target = tmp_path / "in.flow", tmp_path / "out.flow"
    args = ["-w", str(source), "--flow-detail", "0"]
    with Mitmdump(provider.url, confdir=confdir, options={"gateway_db": tmp_path / "live.db"}, args=args) as proxy:
        for kind, path in PATHS.items():
            for scenario in SCENARIOS.values():
                for stream in (True, False):
                    provider.script(scenario)
                    note = {"metadata": {"password": PLANTED["member"]}}
                    call = Call(proxy.url, path, request_body(kind, "toy", stream=stream, **note))
                    with suppress(ConnectionError):
                        call.read()
        assert proxy.stop() == 0
    flowfile.redact_file(source, target)
    assert "planted" not in target.read_bytes().decode(errors="replace")
    before, after = (_all_rows(path, tmp_path / f"{path.stem}.db", confdir) for path in (source, target))
    assert len(before) == len(PATHS) * len(SCENARIOS) * 2
    assert [_difference(*pair) for pair in zip(after, before, strict=True)] == [{}] * len(before)


def _difference(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}


def _all_rows(path: Path, db: Path, confdir: Path) -> list[dict[str, Any]]:
    result = run_on_file(path, db, "--flow-detail", "0", confdir=confdir)
    assert result.returncode == 0, result.stdout
    found = rows(db, "SELECT * FROM requests ORDER BY started_at, id")
    return [{name: value for name, value in row.items() if name not in TEXT_COLUMNS} for row in found]
