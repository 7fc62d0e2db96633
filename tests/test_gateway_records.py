"""What the gateway leaves behind: rows, `rewrites`, flows without secrets, and what replays make of them."""

import copy
import functools
import json
import socket
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy.http import HTTPFlow, Request
from mitmproxy.io import FlowWriter
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from tests.client import PATHS, Call, request_body
from tests.gateways import CLIENT, ENCODE, KEYS, KINDS, SAID, TOKENS, answer_of, tls_address, until
from tests.mitmdump import Mitmdump, read_flows, rows, run_mitmdump, run_on_file
from tests.provider import Provider
from tests.provider.answer import Error
from tests.provider.replies import fails
from tests.provider.scenarios import Scenario
from tests.provider.server import Received


class Saved:
    """A session that has ended: its files, what was printed, and what the provider received, by the `x-case` header."""

    def __init__(self, folder: Path) -> None:
        self.flow_file = folder / "session.flow"
        self.db = folder / "gateway.db"
        self.stdout = ""
        self.sent: dict[str, bytes] = {}
        self.received: dict[str, Received] = {}
        self.everything_on_disk = b""
        """What the files of the database held while the session went on (there is a WAL then) and afterwards."""

    @functools.cached_property
    def flows(self) -> dict[str, HTTPFlow]:
        flows = cast(list[HTTPFlow], read_flows(self.flow_file))
        return {flow.request.headers["x-case"]: flow for flow in flows}

    def read_disk(self) -> None:
        self.everything_on_disk += b"".join(path.read_bytes() for path in self.db.parent.iterdir())


SESSION: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{kind} {model} {stream}": (kind, request_body(kind, model, stream=stream))
        for kind in KINDS
        for model in ("fake/text", "acme/openrouter-byok")
        for stream in (True, False)
    },
    "hidden usage": ("chat_completions", request_body("chat_completions", "keyless/text")),
    "strict": (
        "messages",
        request_body("messages", "claude/strict", models=["x"], betas=["compact-1"], weird={"~/": 1}),
    ),
    "secure": ("messages", request_body("messages", "secure/text")),
    "auto": ("responses", request_body("responses", "acme/auto", models=["x"])),
    "compressed answer": ("messages", request_body("messages", "acme/gzip")),
    "cut": ("responses", request_body("responses", "acme/cut-chunked")),
    "error": ("messages", request_body("messages", "acme/http-429")),
    "unknown model": ("messages", request_body("messages", "acme/unknown")),
    "bad payload": ("chat_completions", {"model": "fake/text", "messages": 5}),
    "odd name": ("messages", request_body("messages", "acme/\ud800\n\x1b[2J")),
}
"""Calls that end by themselves: kind and body."""

QUOTING = Error(status=401, type="authentication_error", message=f"Unknown key: {KEYS['TOY_KEY']}")


@pytest.fixture(scope="module")
def saved(
    session_provider: Provider,
    tls_provider: Provider,
    config: Path,
    certificate: Path,
    confdir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Saved:
    """A session with a client that shows our token as its key; every way a call can end is in it."""
    session_provider.reset()
    tls_provider.reset()
    saved = Saved(tmp_path_factory.mktemp("saved"))
    options = {
        "gateway_db": saved.db,
        "gateway_config": config,
        "ssl_verify_upstream_trusted_ca": certificate,
        "flow_detail": 2,
    }
    args = ["-w", str(saved.flow_file)]
    with Mitmdump(session_provider.url, confdir=confdir, options=options, args=args, env=KEYS | TOKENS) as proxy:

        def post(case: str, path: str, body: object) -> Call:
            saved.sent[case] = body if isinstance(body, bytes) else json.dumps(body).encode()
            keys = {"authorization": f"Bearer {CLIENT}", "x-api-key": CLIENT}
            return Call(proxy.url, "/api/gateway" + path, saved.sent[case], keys | {"x-case": case})

        for case, (kind, body) in SESSION.items():
            post(case, PATHS[kind], body).read()
        compressed = json.dumps(request_body("messages", "acme/openrouter-byok")).encode()
        for encoding in ("gzip", "br", "zstd"):
            call = Call(proxy.url, "/api/gateway/messages", ENCODE[encoding](compressed),
                        {"x-api-key": CLIENT, "content-encoding": encoding, "x-case": encoding})  # fmt: skip
            call.read()
        session_provider.script(Scenario("quotes the key that it refuses", fails(QUOTING)))
        post("quoted key", "/messages", request_body("messages", "fake/text")).read()
        post("unknown path", f"/keys?key={CLIENT}", {}).read()
        post("token in the URL", f"/messages?key={CLIENT}", request_body("messages", "fake/text")).read()
        post("count", "/messages/count_tokens", request_body("messages", "fake/text")).read()
        with socket.create_connection(("127.0.0.1", int(proxy.url.split(":")[-1]))) as broken_off:
            head = f"POST /api/gateway/messages HTTP/1.1\r\nx-api-key: {CLIENT}\r\nx-case: broken off\r\n"
            broken_off.sendall(f"{head}host: localhost\r\ncontent-length: 99\r\n\r\n{{".encode())
        proxy.wait_for("peer closed connection")
        left = post("left", "/messages", request_body("messages", "acme/held"))
        left.response.read1()
        left.leave()
        proxy.wait_for("client_aborted")
        saved.read_disk()
        count = len(session_provider.requests)
        silent = post("silent", "/messages", request_body("messages", "fake/silent"))
        session_provider.wait_for_request(count + 1)
        until(lambda: len(rows(saved.db, "SELECT id FROM requests WHERE outcome = 'in_flight'")) == 1)
        saved.read_disk()
        assert proxy.stop() == 0
        silent.leave()
        saved.stdout = proxy.stdout
    saved.read_disk()
    received = session_provider.requests + tls_provider.requests
    saved.received = {one.headers["x-case"]: one for one in received}
    session_provider.reset()
    return saved


def test_every_call_of_the_session_is_in_the_file_and_on_record(saved: Saved) -> None:
    outcomes = {row["id"]: row["outcome"] for row in rows(saved.db, "SELECT id, outcome FROM requests")}
    found = {case: outcomes.get(flow.id) for case, flow in saved.flows.items()}
    assert found == {
        **dict.fromkeys((*SESSION, "gzip", "br", "zstd"), "complete"),
        "cut": "upstream_cut",
        **dict.fromkeys(("error", "quoted key"), "http_error"),
        **dict.fromkeys(("unknown model", "bad payload", "odd name", "token in the URL"), "rejected"),
        **dict.fromkeys(("unknown path", "count", "broken off")),
        "left": "client_aborted",
        "silent": "interrupted",
    }
    assert "Traceback" not in saved.stdout
    assert "\x1b[2J" not in saved.stdout


@pytest.mark.parametrize("secret", [*KEYS.values(), *TOKENS.values()])
def test_no_key_and_no_token_stays_anywhere(secret: str, saved: Saved) -> None:
    assert secret.encode() not in saved.everything_on_disk
    assert secret.encode() not in saved.flow_file.read_bytes()
    assert secret not in saved.stdout


def test_an_error_that_quotes_a_key_is_kept_without_it(saved: Saved) -> None:
    (row,) = rows(
        saved.db, "SELECT error_message, response_bytes FROM requests WHERE http_status = 401 AND provider = 'toy'"
    )
    assert row["error_message"] == "Unknown key: " + "*" * len(KEYS["TOY_KEY"])
    response = saved.flows["quoted key"].response
    assert response
    assert len(response.raw_content or b"") == row["response_bytes"]


def test_in_place_of_a_key_the_flow_names_whose_it_was(saved: Saved) -> None:
    assert saved.flows["silent"].request.headers["authorization"] == "{gateway:toy}"
    assert saved.flows["strict"].request.headers["x-api-key"] == "{gateway:claude}"
    assert "authorization" not in saved.flows["hidden usage"].request.headers


def test_rewrites_turn_the_clients_request_into_what_the_provider_received(saved: Saved) -> None:
    table = {row["id"]: json.loads(row["rewrites"]) for row in rows(saved.db, "SELECT id, rewrites FROM requests")}
    secrets = {"toy": f"Bearer {KEYS['TOY_KEY']}", "claude": KEYS["CLAUDE_KEY"], "v1": f"Bearer {KEYS['SECURE_KEY']}"}
    rewritten = {case: flow for case, flow in saved.flows.items() if table.get(flow.id)}
    assert len(rewritten) > len(KINDS) * 4
    for case, flow in rewritten.items():
        document = patched(_document(cast(Any, flow)._backup["request"]), table[flow.id])
        received = saved.received[case]
        secret = secrets.get(document["url"].split("/")[3], "")
        sent = {name: secret if value == "<secret>" else value for name, value in document["headers"].items()}
        assert document["url"].partition("://")[2] == received.headers["host"] + received.path, case
        # these two follow from the URL and the body
        ignored = {"host", "content-length"}
        assert _without(sent, ignored) == _without(received.headers, ignored), case
        assert json.dumps(document["body"]) == json.dumps(received.json), case


def _document(state: Any) -> dict[str, Any]:
    """A request as `rewrites` looks at it."""
    request = Request.from_state(state)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return {"url": request.url, "headers": headers, "body": json.loads(request.content or b"")}


def _without(headers: dict[str, str], names: set[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}


def patched(document: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, one operation after the other."""
    document = copy.deepcopy(document)
    for operation in operations:
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        place = document
        for part in parents:
            place = place[int(part) if isinstance(place, list) else part]
        match operation["op"], place:
            case "remove", list():
                del place[int(last)]
            case "remove", dict():
                del place[last]
            case "add", list():
                place.insert(len(place) if last == "-" else int(last), operation["value"])
            case "replace", list():
                place[int(last)] = operation["value"]
            case op, dict():
                assert op == "add" or last in place
                place[last] = operation["value"]
    return document


def test_revert_gives_the_clients_own_request(saved: Saved) -> None:
    for case in ("strict", "auto", "hidden usage", "silent"):
        flow = saved.flows[case].copy()
        sent_path = saved.received[case].path
        assert flow.request.path == sent_path
        flow.revert()
        assert flow.request.path.startswith("/api/gateway/")
        assert flow.request.raw_content == saved.sent[case]
        assert flow.request.headers["x-api-key"] == "{gateway:token}"


def test_the_flow_holds_the_answer_as_received(saved: Saved) -> None:
    for case in ("messages acme/openrouter-byok True", "responses acme/openrouter-byok False", "hidden usage"):
        response = saved.flows[case].response
        assert response
        assert response.raw_content == answer_of(saved.received[case])
    compressed = saved.flows["compressed answer"].response
    assert compressed
    assert compressed.headers["content-encoding"] == "gzip"
    assert b"fake/gzip" in (compressed.content or b"")


@pytest.mark.parametrize("configured", [True, False], ids=["with its configuration", "without"])
def test_loading_the_file_gives_the_same_rows_and_rewrites_nothing(
    configured: bool, saved: Saved, config: Path, confdir: Path, tmp_path: Path
) -> None:
    db, again = tmp_path / "file.db", tmp_path / "again.flow"
    options = {"gateway_db": db} | ({"gateway_config": config} if configured else {})
    result = run_mitmdump("-n", "-r", str(saved.flow_file), "-w", str(again), "--flow-detail", "0", confdir=confdir,
                          options=options, env=KEYS | TOKENS if configured else None)  # fmt: skip
    assert result.returncode == 0, result.stdout
    live, loaded = (
        {
            row.pop("id"): {name: value for name, value in row.items() if name not in ("run_id", "source")}
            for row in found
        }
        for found in (rows(path, "SELECT * FROM requests") for path in (saved.db, db))
    )
    assert loaded.keys() == live.keys()
    for id, row in live.items():
        assert {
            name: (loaded[id][name], row[name])
            for name in row
            if not name.endswith("_id") and loaded[id][name] != row[name]
        } == {}
    copies = {flow.id: flow for flow in cast(list[HTTPFlow], read_flows(again))}
    for flow in saved.flows.values():
        assert copies[flow.id].request.get_state() == flow.request.get_state()


HOSTILE: dict[str, Any] = {
    "outcome": ["complete"],
    "error_type": {"a": 1},
    "rewrites": '{"no": "list"}',
    "warnings": 5,
    "duration_ms": "fast",
    "time_to_first_byte_ms": [1],
}


def test_a_file_with_nonsense_for_metadata_costs_no_row(saved: Saved, confdir: Path, tmp_path: Path) -> None:
    flows = [saved.flows[case].copy() for case in ("silent", "cut", "messages fake/text True")]
    for flow in flows:
        flow.metadata["gateway"] = dict(HOSTILE)
    _save(tmp_path / "hostile.flow", flows)
    result = run_on_file(tmp_path / "hostile.flow", tmp_path / "file.db", "--set=gateway_content=none", confdir=confdir)
    assert "failed" not in result.stdout
    assert len(rows(tmp_path / "file.db", "SELECT id FROM requests")) == 3


def _save(path: Path, flows: list[HTTPFlow]) -> None:
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for flow in flows:
            writer.add(flow)


# -- replay ------------------------------------------------------------------------------------------------------------


def test_client_replay_spends_todays_key_once_and_only_at_the_providers_own_address(
    saved: Saved, provider: Provider, config: Path, confdir: Path, tmp_path: Path
) -> None:
    case = "messages acme/openrouter-byok True"
    own, elsewhere, fronted, above = (saved.flows[case].copy() for _ in range(4))
    # of a reverse-mode flow mitmproxy itself corrects the header
    fronted.client_conn.proxy_mode = ProxyMode.parse("regular")
    with Provider() as stranger:
        host, _, port = stranger.url.removeprefix("http://").partition(":")
        elsewhere.request.host, elsewhere.request.port = host, int(port)
        fronted.request.headers["host"] = "stranger.example"
        above.request.path = "/keys"
        _save(tmp_path / "replay.flow", [own, elsewhere, fronted, above])
        today = "key-of-toy-today-41f7"
        db, again = tmp_path / "gateway.db", tmp_path / "again.flow"
        result = run_mitmdump("-n", "-C", str(tmp_path / "replay.flow"), "-w", str(again), "--flow-detail", "4",
                              confdir=confdir, options={"gateway_db": db, "gateway_config": config},
                              env=TOKENS | {"TOY_KEY": today})  # fmt: skip
        assert result.returncode == 0, result.stdout
        assert [received.headers["authorization"] for received in stranger.requests] == ["{gateway:toy}"]
    assert [received.headers["authorization"] for received in provider.requests] == [
        f"Bearer {today}",
        "{gateway:toy}",
        "{gateway:toy}",
    ]
    assert provider.requests[0].path == saved.received[case].path
    assert provider.requests[0].body == saved.received[case].body
    for file in (db, again):
        assert today.encode() not in file.read_bytes()
    assert today not in result.stdout
    replayed = cast(list[HTTPFlow], read_flows(again))
    assert [flow.request.headers["authorization"] for flow in replayed] == ["{gateway:toy}"] * 4
    assert {row["source"] for row in rows(db, "SELECT source FROM requests")} == {"replay"}


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_capture_without_the_gateway_is_replayed_with_todays_key_if_asked(
    asked_for: bool, provider: Provider, config: Path, confdir: Path, tmp_path: Path
) -> None:
    """Known by its host; a redacted credential is sent to nobody."""
    plain, redacted, elsewhere, by_query = (tflow.tflow() for _ in range(4))
    host, _, port = provider.url.removeprefix("http://").partition(":")
    body = json.dumps(request_body("chat_completions", "fake/text", stream=False))
    with Provider() as stranger:
        for flow in (plain, redacted, elsewhere, by_query):
            flow.request = Request.make("POST", f"http://{host}:{port}/toy/v1/chat/completions", body)
        plain.request.headers["authorization"] = "Bearer client-key-of-then-0001"
        redacted.request.headers["authorization"] = "Bearer [redacted:openai_key:0123abcd]"
        redacted.request.headers["cookie"] = "sid=[redacted:credential:0123abcd]"
        elsewhere.request.url = f"{stranger.url}/toy/v1/chat/completions"
        elsewhere.request.headers["x-api-key"] = "[redacted:credential:0123abcd]"
        by_query.request.path += "?key=[redacted:credential:0123abcd]&beta=true"
        _save(tmp_path / "replay.flow", [plain, redacted, elsewhere, by_query])
        options = {
            "gateway_db": tmp_path / "gateway.db",
            "gateway_config": config,
            "gateway_replay_keys": str(asked_for).lower(),
        }
        result = run_mitmdump("-n", "-C", str(tmp_path / "replay.flow"), "-w", str(tmp_path / "again.flow"),
                              confdir=confdir, options=options, env=KEYS)  # fmt: skip
        assert result.returncode == 0, result.stdout
        there = [received.headers for received in stranger.requests]
    todays = f"Bearer {KEYS['TOY_KEY']}"
    assert [received.headers.get("authorization") for received in provider.requests] == (
        [todays] * 3 if asked_for else ["Bearer client-key-of-then-0001", None, None]
    )
    assert ["cookie" in received.headers for received in provider.requests] == [False] * 3
    assert provider.requests[-1].path.endswith("/chat/completions?beta=true")
    assert [("x-api-key" in headers, "authorization" in headers) for headers in there] == [(False, False)]
    assert KEYS["TOY_KEY"].encode() not in (tmp_path / "again.flow").read_bytes()
    withheld = "cookie" if asked_for else "authorization, cookie"
    assert f"sent again without its redacted {withheld}" in result.stdout


def test_client_replay_asks_tls_for_the_provider_and_for_no_name_of_the_file(
    saved: Saved, secure: Provider, config: Path, certificate: Path, confdir: Path, tmp_path: Path
) -> None:
    flow = saved.flows["secure"].copy()
    flow.request.headers["host"] = "stranger.example"
    _save(tmp_path / "replay.flow", [flow])
    options = {
        "gateway_db": tmp_path / "gateway.db",
        "gateway_config": config,
        "ssl_verify_upstream_trusted_ca": certificate,
    }
    args = ["-n", "-C", str(tmp_path / "replay.flow")]
    result = run_mitmdump(*args, confdir=confdir, options=options, env=KEYS)
    assert result.returncode == 0, result.stdout
    assert [received.headers["host"] for received in secure.requests] == [tls_address(secure)]


def test_server_replay_answers_gateway_calls_from_a_file(
    saved: Saved, provider: Provider, config: Path, confdir: Path, tmp_path: Path
) -> None:
    cases = [
        "messages acme/openrouter-byok True",
        "responses acme/openrouter-byok False",
        "chat_completions fake/text True",
        "hidden usage",
    ]
    _save(tmp_path / "server.flow", [saved.flows[case] for case in cases])
    db = tmp_path / "gateway.db"
    options = {"gateway_db": db, "gateway_config": config, "server_replay_extra": "404", "keepserving": "true"}
    args = ["-S", str(tmp_path / "server.flow"), "-w", str(tmp_path / "again.flow")]
    with Mitmdump(provider.url, confdir=confdir, options=options, args=args, env=KEYS | TOKENS) as proxy:
        for case in cases:
            kind, body = SESSION[case]
            received = Call(proxy.url, "/api/gateway" + PATHS[kind], body).read()
            assert SAID.split()[-1].encode() in received
            assert str(body["model"]).startswith("acme/") == (b"fake/" not in received)
            assert (b'"choices":[]' in received) == (case == "chat_completions fake/text True")
        assert proxy.stop() == 0
    assert provider.requests == []
    assert [(row["source"], row["outcome"]) for row in rows(db, "SELECT * FROM requests")] == [
        ("replay", "complete")
    ] * 4
    assert KEYS["TOY_KEY"].encode() not in (tmp_path / "again.flow").read_bytes()


# -- starting ----------------------------------------------------------------------------------------------------------

MISTAKES = {
    "an unknown key": ("[rewrite]\nstrip_model = true", "rewrite.strip_model: unknown key"),
    "a dangling name": ('default_provider = "nobody"', "default_provider: no provider is called 'nobody'"),
    "a key in the file": ('default_provider = "sk-or-v1-0123456789abcdef"', "looks like a key"),
    "no TOML": ("providers = [", "is not TOML"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_in_the_file_ends_the_start_with_one_line(
    text: str, message: str, saved: Saved, confdir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    options = {"gateway_db": tmp_path / "gateway.db", "gateway_config": path}
    result = run_mitmdump("-n", "-r", str(saved.flow_file), confdir=confdir, options=options)
    assert result.returncode != 0
    (line,) = (line for line in result.stdout.splitlines() if "gateway-addon" in line)
    assert str(path) in line
    assert message in line
    assert "0123456789abcdef" not in result.stdout
    assert list(tmp_path.iterdir()) == [path]
