"""A fourth kind and a fifth dialect go all ways that the built-in ones go, and no module of the package knows them."""

import json
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from gateway_addon import api, cache_breaks, dialects
from gateway_addon.captures import flowfile, replay
from gateway_addon.cli import main
from tests.client import Call
from tests.mitmdump import ADDON, Mitmdump, http_flows, rows, run_mitmdump
from tests.toys import dialogue, pence
from tests.toys.stage import SAID, SECRET, Stage

SCRIPT = Path(__file__).parent / "toys" / "script.py"
CONFIG = """
default_provider = "stage"
[providers.stage]
api_url = "{url}/v1"
api_kinds = ["dialogue"]
dialect = "pence"
api_key_env = "STAGE_KEY"
[models."acme/free"]
model = "lead"
free = true
[auto_models."acme/auto"]
default = {{ model = "lead", effort = "high" }}
[rewrite]
tracking_salt_env = "SALT"
"""
KEYS = {"STAGE_KEY": "stage-key-0123456789", "SALT": "salt"}


def request(model: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "persona": "You are a butler of few words.",
        "lines": [
            {"role": "director", "says": "Slowly, please."},
            {"role": "guest", "says": "Where is the marmalade?"},
            {"role": "actor", "does": {"id": "a0", "name": "bow"}},
            {"role": "stage", "of": "a0", "shows": "he bows"},
        ],
        "acts": ["bow"],
        "listener": {"id": "guest-1"},
        "stream": True,
    } | more


class Played(NamedTuple):
    """What came of a run through everything."""

    folder: Path
    answers: dict[str, bytes]
    asked: list[tuple[str, dict[str, str], Any]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, confdir: Path) -> Played:
    """The calls of a live run: `observed`, `auto`, `free`, `props`, `unknown`."""
    folder = tmp_path_factory.mktemp("toys")
    with Stage() as stage:
        (folder / "gateway.toml").write_text(CONFIG.format(url=stage.url))
        options = {"gateway_db": folder / "gateway.db", "gateway_config": folder / "gateway.toml"}
        args = ("-s", str(ADDON), "-w", str(folder / "all.flow"))
        with Mitmdump(stage.url, confdir=confdir, addon=SCRIPT, options=options, args=args, env=KEYS) as proxy:
            answers = {
                "observed": Call(proxy.url, "/v1/dialogue", request("lead")).read(),
                "auto": Call(
                    proxy.url, "/api/gateway/dialogue", request("acme/auto", models=["x"], encore=True)
                ).read(),
                "free": Call(proxy.url, "/api/gateway/v1/dialogue", request("acme/free")).read(),
                "props": get(proxy.url, "/api/gateway/dialogue/props"),
                "unknown": get(proxy.url, "/api/gateway/curtain"),
            }
            proxy.stop()
        return Played(folder, answers, stage.asked)


def get(url: str, path: str) -> bytes:
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    connection.request("GET", path, headers={"x-dialogue": "1"})
    answer = connection.getresponse().read()
    connection.close()
    return answer


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind and dialect are known to this process as well."""
    monkeypatch.setitem(api.KINDS, dialogue.NAME, dialogue)
    monkeypatch.setitem(dialects.DIALECTS, pence.NAME, pence)


def cli(*args: object) -> str:
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_live_rows(played: Played):
    found = rows(played.folder / "gateway.db", "SELECT * FROM requests ORDER BY started_at")
    columns = (
        *("api_kind", "outcome", "dialect", "request_model", "upstream_model", "response_model", "finish_reason"),
        *("input_tokens", "output_tokens", "cost_microdollars", "cost_source"),
    )
    same = ("applause", 30, 20, 2_500_000, "reported")
    assert [tuple(row[name] for name in columns) for row in found] == [
        ("dialogue", "complete", "pence", "lead", "lead", "lead", *same),
        ("dialogue", "complete", "pence", "acme/auto", "lead", "lead", *same),
        ("dialogue", "complete", "pence", "acme/free", "lead", "lead", *same),
    ]
    assert all(row["time_to_first_token_ms"] is not None for row in found)
    (prompt,) = rows(played.folder / "gateway.db", "SELECT DISTINCT system_prompt, user_prompt FROM prompts")
    assert prompt == {
        "system_prompt": "You are a butler of few words.",
        "user_prompt": "Where is the marmalade?",
    }
    (call,) = rows(
        played.folder / "gateway.db", "SELECT DISTINCT name, arguments, arguments_valid, executor FROM tool_calls"
    )
    assert call == {"name": "bow", "arguments": "deeply", "arguments_valid": None, "executor": "client"}


def test_what_was_observed_went_on_unchanged(played: Played):
    assert played.asked[0][2] == request("lead")


def test_the_gateway_sets_model_effort_key_and_tracking_ids(played: Played):
    path, headers, sent = played.asked[1]
    assert (path, headers["x-api-key"]) == ("/v1/dialogue", KEYS["STAGE_KEY"])
    hashed = sent["listener"].pop("id")
    assert len(hashed) == 64
    # its vendor is strict, and refuses what it does not know
    assert sent == request("lead", vigour="high", listener={})


def test_a_free_model_keeps_its_public_name_and_its_price_to_itself(played: Played):
    data = played.answers["free"]
    assert b'"acme/free"' in data
    assert b'"lead"' not in data
    assert b"till" not in data
    assert b"till" in played.answers["auto"]


def test_side_paths_and_refusals_are_the_kinds_own(played: Played):
    assert played.answers["props"] == b'["a chair"]'
    assert played.asked[-1][0] == "/v1/dialogue/props"
    assert json.loads(played.answers["unknown"])["code"] == "unknown_path"
    assert "boo" in json.loads(played.answers["unknown"])


def test_the_file_gives_the_same_rows(played: Played, confdir: Path, tmp_path: Path):
    args = ("-s", str(ADDON), "-n", "-r", str(played.folder / "all.flow"))
    done = run_mitmdump(*args, confdir=confdir, addon=SCRIPT, options={"gateway_db": tmp_path / "again.db"})
    assert done.returncode == 0, done.stdout
    columns = "api_kind, outcome, upstream_model, input_tokens, cost_microdollars, request_sha256, rewrites, dialect"
    sql = f"SELECT {columns} FROM requests ORDER BY started_at"
    assert rows(tmp_path / "again.db", sql) == rows(played.folder / "gateway.db", sql)


def test_bodies_are_cut_into_parts_and_given_back(played: Played, known: None):
    db = played.folder / "gateway.db"
    tips = rows(db, "SELECT system_tip_id, tools_tip_id, conversation_tip_id, whole_body_id FROM requests")
    assert tips[0]["whole_body_id"] is None
    assert None not in (tips[0]["system_tip_id"], tips[0]["tools_tip_id"], tips[0]["conversation_tip_id"])
    # the three calls sent one conversation
    assert len({row["conversation_tip_id"] for row in tips}) == 1
    (first, *_) = rows(db, "SELECT id FROM requests ORDER BY started_at")
    assert json.loads(cli("body", db, first["id"])) == request("lead")
    cli("verify", db)


def test_texts_are_found(played: Played, known: None):
    assert "marmalade" in cli("search", played.folder / "gateway.db", "marmalade")


def test_a_changed_setting_breaks_the_cache(known: None):
    before, after = (json.dumps(request("lead", vigour=vigour)).encode() for vigour in ("low", "high"))
    found = cache_breaks.first_difference(before, after)
    assert found is not None
    assert (found.segment, found.cause) == ("vigour", "other effort")
    other = request("lead")
    other["lines"][0]["says"] = "Faster!"
    found = cache_breaks.first_difference(json.dumps(request("lead")).encode(), json.dumps(other).encode())
    assert found is not None
    assert (found.segment, found.cause) == ("system", "changed text")


def test_the_recording_is_served_again(played: Played, known: None):
    recorded = list(replay.recordings(played.folder / "all.flow"))
    with replay.ReplayServer(played.folder / "all.flow", recorded, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        again = request("lead")
        # another run: other ids and marks, other words of the director
        again["lines"][0]["says"] = "Quickly, please."
        again["lines"][2]["does"]["id"] = again["lines"][3]["of"] = "a9"
        served = Call(server.url, "/v1/dialogue", again).read()
        again["lines"][1]["says"] = "Something else"
        refused = Call(server.url, "/v1/dialogue", again).read()
        server.shutdown()
    assert b"curtain" in served
    assert "boo" in json.loads(refused)


def test_a_secret_over_several_bits_is_redacted(played: Played, known: None, tmp_path: Path):
    flowfile.redact_file(played.folder / "all.flow", tmp_path / "shared.flow")
    flow = http_flows(tmp_path / "shared.flow")[0]
    assert flow.response is not None
    data = flow.response.content or b""
    said = "".join(json.loads(line[6:])["bit"]["says"] for line in data.decode().splitlines() if '"bit"' in line)
    assert SECRET in "".join(SAID)
    assert said.startswith("Good evening, [redacted:anthropic_key:")
    assert SECRET[12:] not in data.decode()
