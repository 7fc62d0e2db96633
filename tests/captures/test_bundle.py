"""Bundles: calls to share, with the rows they must give; and what is no bundle, whatever it says of itself."""

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mitmproxy.io import FlowWriter

from gateway_addon.captures import bundle
from gateway_addon.captures.bundle import CAPTURE, MANIFEST, README, Difference, differences
from gateway_addon.captures.flowfile import FlowFileError
from gateway_addon.cli import main
from gateway_addon.proxy.offline import store_rows
from tests.make_flows import FINDINGS, FLOWS
from tests.mitmdump import http_flows

DEMO = FLOWS / "demo.flow"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["bundle", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


# ---- What is compared ----


def test_rows_are_compared_call_by_call_in_the_columns_that_both_have():
    expected: bundle.Tables = {
        "requests": [{"id": "a", "outcome": "complete", "gone": 1}, {"id": "b", "outcome": "complete"}],
        "tool_calls": [{"request_id": "a", "position": 0, "name": "read"}],
    }
    found: bundle.Tables = {
        "requests": [{"id": "a", "outcome": "upstream_cut", "new": 2}, {"id": "c", "outcome": "complete"}],
        "tool_calls": [{"request_id": "a", "position": 0, "name": "read"}, {"request_id": "b", "position": 0}],
        "prompts": [],
    }
    assert differences(expected, found) == [
        Difference("a", "requests.outcome", "complete", "upstream_cut"),
        Difference("b", "requests", "a row", "no row"),
        Difference("c", "requests", "no row", "a row"),
        Difference("b", "tool_calls", "no row", "a row"),
    ]


def test_unknown_is_not_zero():
    tables: list[bundle.Tables] = [{"requests": [{"id": "a", "input_tokens": value}]} for value in (None, 0)]
    assert len(differences(*tables)) == 1


# ---- Made and checked ----


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the demo's first call."""
    path = tmp_path_factory.mktemp("bundle") / "one.zip"
    code, said, errors = run(DEMO, http_flows(DEMO)[0].id, path)
    assert (code, said) == (0, f"{path}: 1 call of anthropic-sdk 2.12.0\n"), errors
    return path


def manifest(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        read: dict[str, Any] = json.loads(archive.read(MANIFEST))
    return read


def test_every_flow_of_the_catalogue_round_trips(tmp_path: Path):
    together, path = tmp_path / "all.flow", tmp_path / "all.zip"
    together.write_bytes(b"".join((FLOWS / f"{name}.flow").read_bytes() for name in FINDINGS))
    calls = sum(len(json.loads((FLOWS / f"{name}.json").read_text())["requests"]) for name in FINDINGS)
    assert f"{path}: {calls} calls" in run(together, "all", path)[1]
    code, said, _ = run("--check", path)
    assert (code, said.rpartition(", ")[2]) == (0, "every row as it must be\n")


def test_a_session_is_bundled_with_all_its_calls(tmp_path: Path):
    path = tmp_path / "session.zip"
    assert run(DEMO, "demo-bug", path)[1].startswith(f"{path}: 13 calls of ")
    assert [row["session_id"] for row in manifest(path)["rows"]["requests"]] == ["demo-bug-hunt"] * 13


def test_a_bundle_is_private_and_says_what_it_is(made: Path):
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    told = manifest(made)
    assert told["made_with"].keys() == {"gateway-addon", "mitmproxy", "genai-prices", "python"}
    with zipfile.ZipFile(made) as archive:
        assert sorted(archive.namelist()) == sorted([README, MANIFEST, CAPTURE])
        assert b"gateway-addon bundle --check one.zip" in archive.read(README)


def test_no_secret_is_bundled_not_even_one_that_another_call_shows_to_be_one(tmp_path: Path):
    secret, path = "planted-credential-0001", tmp_path / "one.zip"
    first, second, *_ = http_flows(DEMO)
    first.request.headers["x-api-key"] = secret
    second.comment = f"sent {secret}"
    source = tmp_path / "in.flow"
    with source.open("wb") as file:
        for flow in (first, second):
            FlowWriter(file).add(flow)
    assert run(source, second.id, path)[0] == 0
    with zipfile.ZipFile(path) as archive:
        held = b"".join(map(archive.read, archive.namelist()))
    assert second.id.encode() in held
    assert first.id.encode() not in held
    assert secret.encode() not in held


@pytest.mark.parametrize("credential", ["planted-credential-0001", "sk-ant-planted-0123456789", "lm-studio"])
def test_redaction_does_not_change_what_a_row_says_of_the_credential(credential: str, tmp_path: Path):
    first, *_ = http_flows(DEMO)
    for name in ("authorization", "x-api-key"):
        first.request.headers.pop(name, None)
    first.request.headers["x-api-key"] = credential
    source, path = tmp_path / "in.flow", tmp_path / "one.zip"
    with source.open("wb") as file:
        FlowWriter(file).add(first)
    code, _, errors = run(source, first.id, path)
    assert (code, errors) == (0, "")
    kinds = {"planted-credential-0001": "credential", "sk-ant-planted-0123456789": "anthropic_key"}
    assert manifest(path)["rows"]["requests"][0]["client_credential"] == kinds.get(credential)


def test_redaction_changes_no_row_of_the_demo(tmp_path: Path):
    assert run(DEMO, "all", tmp_path / "all.zip")[2] == ""


def repacked(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    told = manifest(path)
    change(told)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(told) if name == MANIFEST else old.read(name))
    return target


def test_a_check_names_the_columns_that_differ(made: Path, tmp_path: Path):
    def change(told: dict[str, Any]) -> None:
        told["rows"]["requests"][0] |= {"outcome": "upstream_cut", "column_of_another_version": 7}
        told["rows"]["tool_calls"].append({"request_id": "no-such-call", "position": 0})
        told["made_with"]["gateway-addon"] = "0.0.9\x1b[2J"

    code, said, _ = run("--check", repacked(made, tmp_path / "other.zip", change))
    assert code == 1
    lines = said.splitlines()
    assert lines[1].split()[1:] == ["requests.outcome", "upstream_cut", "complete"]
    assert lines[2].split() == ["no-such-call", "tool_calls", "a", "row", "no", "row"]
    assert len(lines) == 4
    assert "rows differ from those of gateway-addon 0.0.9\\x1b[2J" in lines[3]


# ---- What cannot be made ----


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        ("nothing-like-it", 1, f"no call or session 'nothing-like-it' in {DEMO}"),
        ("", 1, "'' may be any of "),
    ],
)
def test_a_reference_means_one_call_or_session(reference: str, code: int, message: str, tmp_path: Path):
    result = run(DEMO, reference, tmp_path / "out.zip")
    assert result[:2] == (code, "")
    assert result[2].startswith(f"gateway-addon: {message}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("hello\n")
    code, _, errors = run(other, "all", tmp_path / "out.zip")
    assert (code, errors.count("\n")) == (2, 1)
    assert str(other) in errors
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("arguments", [["x.flow"], ["x.flow", "last"], ["--check", "x.zip", "last", "y.zip"]])
def test_bad_usage_is_one_line(arguments: list[str]):
    assert run(*arguments) == (2, "", "gateway-addon: FILE.flow ID|SESSION OUT.zip are needed, or --check FILE.zip\n")


# ---- A zip from a stranger ----


def packed(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


GOOD = [(README, b""), (MANIFEST, b'{"format": 1, "made_with": {}, "agents": [], "rows": {}}'), (CAPTURE, b"")]


def trouble(path: Path) -> str:
    with pytest.raises(FlowFileError) as caught:
        bundle.check(path, store_rows)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([*GOOD, ("../evil", b"")], id="a path outside"),
        pytest.param([*GOOD, ("/tmp/evil", b"")], id="an absolute path"),
        pytest.param([*GOOD, ("addon.py", b"")], id="code"),
        pytest.param([*GOOD[:2], (f"x/{CAPTURE}", b"")], id="a folder"),
        pytest.param(GOOD[:2], id="too little"),
        pytest.param([], id="nothing"),
    ],
)
def test_only_a_bundles_own_members_are_unpacked(members: list[tuple[str, bytes]], tmp_path: Path):
    path = packed(tmp_path / "x.zip", members)
    assert trouble(path).startswith("is no bundle: it holds other files than ")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path):
    assert trouble(packed(tmp_path / "x.zip", [*GOOD, GOOD[2]])).startswith("is no bundle: ")


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(bundle.LIMITS, CAPTURE, 1_000_000)
    members = [*GOOD[:2], (CAPTURE, b"\0" * 1_000_001)]
    path = packed(tmp_path / "x.zip", members)
    assert path.stat().st_size < 10_000
    assert trouble(path) == f"{CAPTURE} is too large for a bundle: more than 1 MB"


def test_a_member_that_understates_its_size_is_refused(tmp_path: Path):
    path = packed(tmp_path / "x.zip", [*GOOD[:2], (CAPTURE, b"\0" * 10_000)])
    path.write_bytes(path.read_bytes().replace((10_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert trouble(path) == "is no zip file, or damaged"


def test_methods_of_unbounded_memory_are_refused(tmp_path: Path):
    path = packed(tmp_path / "x.zip", GOOD, zipfile.ZIP_LZMA)
    assert trouble(path) == f"is no bundle: {README} is packed in another way"


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"format": 2, "made_with": {}, "agents": [], "rows": {}}', id="another format"),
        pytest.param(b'{"format": 1, "made_with": {}, "agents": [], "rows": {"requests": [7]}}', id="no rows"),
    ],
)
def test_a_manifest_is_checked(told: bytes, tmp_path: Path):
    path = packed(tmp_path / "x.zip", [GOOD[0], (MANIFEST, told), GOOD[2]])
    assert trouble(path) == f"its {MANIFEST} is damaged, or of another version"


def test_a_damaged_capture_is_named(made: Path, tmp_path: Path):
    with zipfile.ZipFile(made) as archive:
        flows = archive.read(CAPTURE)
    path = packed(tmp_path / "x.zip", [*GOOD[:2], (CAPTURE, flows[:-10])])
    code, _, errors = run("--check", path)
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"gateway-addon: {path}: {CAPTURE}: ")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" * 100], ids=repr)
def test_something_else_is_no_zip(content: bytes, tmp_path: Path):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    assert trouble(path) == "is no zip file, or damaged"


def test_a_bundle_that_is_not_there(tmp_path: Path):
    assert trouble(tmp_path / "none") == "No such file or directory"
    assert trouble(tmp_path) == "is no regular file"
