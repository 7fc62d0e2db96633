"""The gateway in a real mitmdump, on real sockets, with the vendors' own SDKs .

What it leaves in files, and what becomes of those, is in test_gateway_records.py.
"""

import copy
import datetime
import functools
import http.client
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import unquote

import anthropic
import h2.config
import h2.connection
import h2.events
import openai
import pytest
import zstandard

from tests.client import PATHS, Call, request_body
from tests.gateways import ADMIN, CLIENT, ENCODE, KEYS, KINDS, LABELLED, SAID, TOKENS, answer_of, tls_address, until
from tests.mitmdump import Mitmdump, rows
from tests.provider import Provider
from tests.provider.delivery import Delivery, Reply
from tests.provider.replies import json_reply
from tests.provider.scenarios import Scenario

STREAM = [pytest.param(True, id="stream"), pytest.param(False, id="whole")]
PREFIXES = ["/api/gateway", "/api/gateway/v1", "/api/openrouter", "/api/openrouter/v1"]


VENDORS: dict[str, Any] = {"chat_completions": openai, "responses": openai, "messages": anthropic}
ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
}
"""What both SDKs raise for a status."""


class Gateway:
    """A mitmdump with our addon, and how clients and tests look at it."""

    def __init__(self, proxy: Mitmdump, db: Path) -> None:
        self.proxy = proxy
        self.url = proxy.url
        self.db = db
        self.since = ""

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Call:
        return Call(self.url, path, body, headers)

    def reset(self) -> None:
        """Count rows from here."""
        self.since = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def row(self) -> dict[str, Any]:
        """The one row that the test's call has left, as soon as it is complete."""
        (row,) = self.rows(1)
        return row

    def rows(self, count: int) -> list[dict[str, Any]]:
        query = f"SELECT * FROM requests WHERE started_at >= '{self.since}' ORDER BY started_at"
        until(lambda: [row["outcome"] != "in_flight" for row in rows(self.db, query)].count(True) >= count)
        found = rows(self.db, query)
        assert len(found) == count, found
        return found


@pytest.fixture(scope="module")
def running(
    session_provider: Provider,
    config: Path,
    certificate: Path,
    confdir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """A reverse-mode listener on loopback, one on the machine's own address if it has any, and a forward proxy."""
    db = tmp_path_factory.mktemp("running") / "gateway.db"
    with Mitmdump(
        "",
        modes=[f"reverse:{session_provider.url}", "regular"],
        confdir=confdir,
        options={"gateway_db": db, "gateway_config": config, "ssl_verify_upstream_trusted_ca": certificate},
        args=[f"--mode=reverse:{session_provider.url}@{own_address()}:0"] if own_address() else [],
        env=KEYS | TOKENS,
    ) as proxy:
        proxy.wait_for("gateway-addon 0")
        yield Gateway(proxy, db)


@pytest.fixture
def gateway(running: Gateway, provider: Provider, secure: Provider) -> Gateway:
    """The running gateway, in front of providers that have seen nothing yet."""
    running.reset()
    return running


@functools.cache
def own_address() -> str:
    """An address of this machine that is not loopback; "" if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
    return "" if address.startswith("127.") else address


CREATE: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "chat_completions": lambda sdk: sdk.chat.completions.create,
    "responses": lambda sdk: sdk.responses.create,
    "messages": lambda sdk: sdk.messages.create,
}


def ask(client: Any, kind: str, model: str, *, stream: bool = False, **more: Any) -> Any:
    """A call through an SDK; a stream as the list of its events."""
    answer = CREATE[kind](client)(**(sdk_body(kind, model, stream=stream) | more))
    return list(answer) if stream else answer


def sdk_body(kind: str, model: str, *, stream: bool) -> dict[str, Any]:
    """What an SDK makes of the arguments that `ask` gives it."""
    body = request_body(kind, model, stream=stream)
    if kind == "responses":
        del body["max_tokens"]
    return body


def text_of(kind: str, answer: Any, *, stream: bool) -> str:
    """What the model said, as the SDK understood it."""
    match kind, stream:
        case "chat_completions", True:
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        case "chat_completions", False:
            return str(answer.choices[0].message.content)
        case "responses", _:
            return str((answer[-1].response if stream else answer).output_text)
        case _, True:
            return "".join(
                e.delta.text for e in answer if e.type == "content_block_delta" and e.delta.type == "text_delta"
            )
        case _:
            return str(answer.content[0].text)


@functools.cache
def sdk(url: str, kind: str, prefix: str = "/api/gateway", key: str = "key-of-the-client") -> Any:
    """The vendor's own client for calls of a kind."""
    client = anthropic.Anthropic if kind == "messages" else openai.OpenAI
    return client(base_url=url + prefix, api_key=key, max_retries=0, timeout=20)


# -- the way up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_gateway_path_reaches_its_provider(
    prefix: str, kind: str, stream: bool, gateway: Gateway, provider: Provider
) -> None:
    answer = ask(sdk(gateway.url, kind, prefix), kind, "fake/text", stream=stream)
    assert text_of(kind, answer, stream=stream) == SAID
    (received,) = provider.requests
    assert (received.method, received.path) == ("POST", "/toy" + PATHS[kind])
    assert received.headers["host"] == provider.url.removeprefix("http://")
    assert received.headers["authorization"] == f"Bearer {KEYS['TOY_KEY']}"
    assert "x-api-key" not in received.headers
    row = gateway.row()
    assert (row["outcome"], row["provider"], row["streamed"]) == ("complete", "toy", stream)
    assert (row["upstream_host"], row["upstream_path"]) == ("127.0.0.1", "/toy" + PATHS[kind])
    assert (row["request_model"], row["upstream_model"]) == ("fake/text", "fake/text")


def test_the_query_is_kept(gateway: Gateway, provider: Provider) -> None:
    said = [{"role": "user", "content": "hi"}]
    create = sdk(gateway.url, "messages").beta.messages.create
    betas = ["compact-2026-01-12"]
    create(model="fake/text", max_tokens=9, messages=said, betas=betas, extra_query={"beta": "true"})
    assert provider.requests[0].path == "/toy/v1/messages?beta=true"
    assert provider.requests[0].headers["anthropic-beta"] == "compact-2026-01-12"
    assert gateway.row()["upstream_path"] == "/toy/v1/messages"


def test_extras_are_forwarded_and_not_logged(gateway: Gateway, provider: Provider) -> None:
    chat, messages = sdk(gateway.url, "responses"), sdk(gateway.url, "messages")
    assert [model.id for model in chat.models.list()] == ["toy/small", "toy/large"]
    assert chat.models.retrieve("toy/small").id == "toy/small"
    assert messages.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}]).input_tokens
    assert chat.responses.retrieve("resp_1").id == "resp_1"
    # the oldest SDK we support has no method for it
    assert chat.post("/responses/resp_1/cancel", cast_to=dict[str, Any])["status"] == "cancelled"
    compacted = gateway.post("/api/gateway/responses/compact", {"model": "m", "input": []}).response
    assert compacted.status == 200
    # SDKs differ in whether they encode the slash of a model's id
    assert [(received.method, unquote(received.path)) for received in provider.requests] == [
        ("GET", "/toy/v1/models"),
        ("GET", "/toy/v1/models/toy/small"),
        ("POST", "/toy/v1/messages/count_tokens"),
        ("GET", "/toy/v1/responses/resp_1"),
        ("POST", "/toy/v1/responses/resp_1/cancel"),
        ("POST", "/toy/v1/responses/compact"),
    ]
    assert {received.headers["authorization"] for received in provider.requests} == {f"Bearer {KEYS['TOY_KEY']}"}
    compacted.read()
    assert gateway.row()["side_request"] == "compaction"


def test_two_providers_in_one_session_one_of_them_on_tls(
    gateway: Gateway, provider: Provider, secure: Provider
) -> None:
    client = sdk(gateway.url, "chat_completions", key="mine")
    for model in ("secure/text", "fake/text", "secure/text"):
        assert text_of("chat_completions", ask(client, "chat_completions", model), stream=False) == SAID
    assert [received.headers["host"] for received in secure.requests] == [tls_address(secure)] * 2
    assert {received.headers["authorization"] for received in secure.requests} == {f"Bearer {KEYS['SECURE_KEY']}"}
    assert [received.headers["authorization"] for received in provider.requests] == [f"Bearer {KEYS['TOY_KEY']}"]
    assert [row["provider"] for row in gateway.rows(3)] == ["secure", "toy", "secure"]


def test_a_server_that_cannot_prove_its_name_gets_nothing(gateway: Gateway, secure: Provider) -> None:
    with pytest.raises(openai.InternalServerError):
        ask(sdk(gateway.url, "chat_completions"), "chat_completions", "impostor/text")
    assert secure.requests == []
    assert (gateway.row()["outcome"], gateway.row()["http_status"]) == ("upstream_cut", None)


def test_anthropics_own_header_and_version(gateway: Gateway, provider: Provider) -> None:
    gateway.post(
        "/api/gateway/messages", request_body("messages", "claude/strict"), {"authorization": "Bearer x"}
    ).read()
    headers = provider.requests[0].headers
    assert headers["x-api-key"] == KEYS["CLAUDE_KEY"]
    assert headers["anthropic-version"]
    assert "authorization" not in headers


@pytest.mark.parametrize(("key", "sent"), [("mine", "Bearer mine"), (CLIENT, None), (ADMIN, None)])
def test_without_a_key_of_its_own_the_clients_pass_but_not_our_tokens(
    key: str, sent: str | None, gateway: Gateway, provider: Provider
) -> None:
    ask(sdk(gateway.url, "chat_completions", key=key), "chat_completions", "keyless/text")
    assert provider.requests[0].headers.get("authorization") == sent


ELSEWHERE = {
    "api-key": "{}",
    "x-goog-api-key": "{}",
    "proxy-authorization": "Bearer {}",
    "cookie": "a=1; t={}",
    "referer": "http://x/?k={}",
    "user-agent": "agent/1 ({})",
    "x-session-id": "{}",
}


@pytest.mark.parametrize("token", [CLIENT, ADMIN, CLIENT.replace("-", "%2d")])
@pytest.mark.parametrize("model", ["keyless/text", "fake/text"])
@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/responses/input_tokens"])
def test_our_tokens_leave_in_no_other_header(
    path: str, model: str, token: str, gateway: Gateway, provider: Provider
) -> None:
    body = request_body("responses" if "responses" in path else "chat_completions", model)
    headers = {name: value.format(token) for name, value in ELSEWHERE.items()} | {"x-other": "stays"}
    gateway.post("/api/gateway" + path, body, headers).read()
    (received,) = provider.requests
    assert token not in str(received.headers)
    assert received.headers["x-other"] == "stays"
    assert not set(ELSEWHERE) & set(received.headers)


@pytest.mark.parametrize("stream", STREAM)
def test_fields_that_are_not_anthropics_never_reach_it(stream: bool, gateway: Gateway, provider: Provider) -> None:
    foreign = {
        "models": ["a", "b"],
        "provider": {"order": ["x"]},
        "transforms": [],
        "reasoning": {"effort": "high"},
        "betas": ["context-1m-2025-08-07", "evil\r\nx-smuggled: 1"],
        "metadata": {"user_id": "u", "session": "s"},
    }
    answer = ask(sdk(gateway.url, "messages"), "messages", "claude/strict", stream=stream, extra_body=foreign)
    assert text_of("messages", answer, stream=stream) == SAID
    (received,) = provider.requests
    assert received.json == sdk_body("messages", "fake/strict", stream=stream) | {"metadata": {"user_id": "u"}}
    assert received.headers["anthropic-beta"] == "context-1m-2025-08-07"
    assert "x-smuggled" not in received.headers


EFFORTS = {
    "chat_completions": {"reasoning": {"effort": "high"}},
    "responses": {"reasoning": {"effort": "high"}},
    "messages": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_auto_model_is_resolved_by_mode_with_its_effort(kind: str, gateway: Gateway, provider: Provider) -> None:
    for headers in ({"x-kilocode-mode": "plan"}, {"x-kilocode-mode": "other"}, {}):
        ask(sdk(gateway.url, kind), kind, "acme/auto", extra_headers=headers)
    planned, *others = (received.json for received in provider.requests)
    assert planned == sdk_body(kind, "fake/reasoning", stream=False) | EFFORTS[kind]
    assert others == [sdk_body(kind, "fake/text", stream=False)] * 2
    assert [row["upstream_model"] for row in gateway.rows(3)] == ["fake/reasoning", "fake/text", "fake/text"]


ODD = (
    b'\xef\xbb\xbf {"temperature" : 1.50,  "seed":9007199254740993, "z":1e400, "unknown":{"b":1,"a":[ ]},'
    b' "model":"NAME", "messages" :[{"role":"user","content":"\\u00e9 \\ud83d\\ude80"}] , "max_tokens":7 }\n'
)


@pytest.mark.parametrize("encoding", ENCODE)
def test_a_body_that_needs_no_change_leaves_byte_for_byte(encoding: str, gateway: Gateway, provider: Provider) -> None:
    body = ENCODE[encoding](ODD.replace(b"NAME", b"fake/text"))
    gateway.post("/api/gateway/messages", body, {"content-encoding": encoding}).read()
    assert provider.requests[0].body == body
    assert provider.requests[0].headers["content-encoding"] == encoding


@pytest.mark.parametrize("encoding", ENCODE)
def test_a_change_leaves_every_other_byte_alone(encoding: str, gateway: Gateway, provider: Provider) -> None:
    body = ENCODE[encoding](ODD.replace(b"NAME", b"acme/openrouter-byok"))
    gateway.post("/api/gateway/messages", body, {"content-encoding": encoding}).read()
    (received,) = provider.requests
    assert received.body == ODD.replace(b"NAME", b"fake/openrouter-byok")
    assert "content-encoding" not in received.headers
    assert gateway.row()["request_bytes"] == len(body)


def test_a_chunked_body_stays_chunked(gateway: Gateway, provider: Provider) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(gateway.url.split(":")[-1]), timeout=20)
    body = json.dumps(request_body("messages", "acme/openrouter-byok", stream=False)).encode()
    connection.request("POST", "/api/gateway/messages", iter([body[:20], body[20:]]), encode_chunked=True,
                       headers={"transfer-encoding": "chunked"})  # fmt: skip
    assert connection.getresponse().status == 200
    connection.close()
    assert provider.requests[0].json["model"] == "fake/openrouter-byok"
    assert provider.requests[0].headers["transfer-encoding"] == "chunked"


# -- the way back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("kind", KINDS)
def test_a_free_model_keeps_its_name_and_its_price_to_itself(
    kind: str, stream: bool, gateway: Gateway, provider: Provider
) -> None:
    body = request_body(kind, "acme/openrouter-byok", stream=stream)
    received = gateway.post("/api/gateway" + PATHS[kind], body).read()
    assert SAID.split()[-1].encode() in received
    assert b"acme/openrouter-byok" in received
    for hidden in (b"fake/", b"cost", b'byok":', b"is_byok"):
        assert hidden not in received
    assert b"fake/" in provider.requests[0].sent
    assert b'"cost"' in provider.requests[0].sent
    row = gateway.row()
    assert (row["request_model"], row["response_model"]) == ("acme/openrouter-byok", "fake/openrouter-byok")
    assert (row["cost_microdollars"], row["charged_microdollars"]) == (10_000, 500)
    assert row["response_bytes"] == len(answer_of(provider.requests[0]))


@pytest.mark.parametrize("label", LABELLED)
@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("kind", KINDS)
def test_a_free_model_does_so_whatever_its_answer_is_labelled(
    kind: str, stream: bool, label: str, gateway: Gateway, provider: Provider
) -> None:
    call = gateway.post("/api/gateway" + PATHS[kind], request_body(kind, f"acme/{label}", stream=stream))
    received = call.read()
    assert SAID.split()[-1].encode() in received
    assert f"acme/{label}".encode() in received
    for hidden in (b"fake/", b"cost", b"is_byok"):
        assert hidden not in received
    row = gateway.row()
    assert (row["streamed"], row["response_model"], row["cost_microdollars"]) == (stream, f"fake/{label}", 10_000)


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("kind", KINDS)
def test_the_sdk_sees_a_free_model_under_its_public_name(kind: str, stream: bool, gateway: Gateway) -> None:
    answer = ask(sdk(gateway.url, kind), kind, "acme/openrouter-byok", stream=stream)
    assert text_of(kind, answer, stream=stream) == SAID
    named = _models_in([part.model_dump() for part in (answer if stream else [answer])])
    assert named == {"acme/openrouter-byok"}


def _models_in(value: object) -> set[str]:
    match value:
        case list():
            return set[str]().union(*map(_models_in, value))
        case dict():
            found = set[str]().union(*map(_models_in, value.values()))
            return found | ({value["model"]} if isinstance(value.get("model"), str) else set())
    return set()


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("kind", KINDS)
def test_also_when_the_provider_compresses_although_it_was_asked_not_to(
    kind: str, stream: bool, gateway: Gateway, provider: Provider
) -> None:
    call = gateway.post(
        "/api/gateway" + PATHS[kind],
        request_body(kind, "acme/gzip", stream=stream),
        {"accept-encoding": "gzip, br"},
    )
    received = call.read()
    assert provider.requests[0].headers["accept-encoding"] == "identity"
    assert call.response.headers["content-encoding"] is None
    assert b"acme/gzip" in received
    assert b"fake/" not in received
    row = gateway.row()
    assert (row["outcome"], row["response_model"]) == ("complete", "fake/gzip")


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}])
def test_usage_that_the_client_did_not_ask_for_is_withheld(
    asked: dict | None, gateway: Gateway, provider: Provider
) -> None:
    more = {"stream_options": asked} if asked else {}
    chunks = ask(sdk(gateway.url, "chat_completions"), "chat_completions", "keyless/text", stream=True, **more)
    assert text_of("chat_completions", chunks, stream=True) == SAID
    assert provider.requests[0].json["stream_options"]["include_usage"] is True
    wanted = bool(asked and asked["include_usage"])
    assert any(chunk.usage for chunk in chunks) == wanted
    assert any(chunk.choices == [] for chunk in chunks) == wanted
    assert gateway.row()["input_tokens"] == 120


@pytest.mark.parametrize("stream", STREAM)
def test_a_connection_survives_rewritten_answers(stream: bool, gateway: Gateway, provider: Provider) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(gateway.url.split(":")[-1]), timeout=20)
    body = json.dumps(request_body("messages", "acme/openrouter-byok", stream=stream))
    sockets = set()
    for _ in range(3):
        connection.request("POST", "/api/gateway/messages", body)
        sockets.add(connection.sock)
        response = connection.getresponse()
        assert SAID.split()[-1].encode() in response.read()
    connection.close()
    assert len(sockets) == 1


def test_a_rewritten_answer_to_a_client_of_http_1_0(gateway: Gateway) -> None:
    """It knows no chunks: the body ends with the connection."""
    body = json.dumps(request_body("messages", "acme/openrouter-byok", stream=False)).encode()
    head = b"POST /api/gateway/messages HTTP/1.0\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    answer = _exchange(gateway, head + body)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["model"] == "acme/openrouter-byok"


def test_a_rewritten_event_does_not_wait_for_the_next(gateway: Gateway, provider: Provider) -> None:
    """And a client that leaves such a stream leaves its row."""
    call = gateway.post("/api/gateway/messages", request_body("messages", "acme/held"))
    received = call.response.read1()
    # the provider holds back what follows its eighth event
    while received.count(b"content_block_delta") < 4:
        received += call.response.read1()
    assert b'"acme/held"' in received
    call.leave()
    row = gateway.row()
    assert (row["outcome"], row["response_model"]) == ("client_aborted", "fake/held")


@pytest.mark.parametrize("kind", KINDS)
def test_an_upstream_that_cuts_a_rewritten_stream(kind: str, gateway: Gateway, provider: Provider) -> None:
    received = gateway.post("/api/gateway" + PATHS[kind], request_body(kind, "acme/cut-chunked")).read()
    assert b"acme/cut-chunked" in received
    assert b"fake/" not in received
    assert gateway.row()["outcome"] == "upstream_cut"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_of_a_free_models_provider_passes(
    status: int, kind: str, gateway: Gateway, provider: Provider
) -> None:
    with pytest.raises(getattr(VENDORS[kind], ERRORS[status])) as raised:
        ask(sdk(gateway.url, kind), kind, f"acme/http-{status}", stream=True)
    assert raised.value.response.content == answer_of(provider.requests[0])
    assert gateway.row()["outcome"] == "http_error"


FREE = "acme/openrouter-byok"
SECRET = "fake/openrouter-byok"
HIDDEN_ERROR = {"message": f"No endpoints found for {SECRET}:free", "metadata": {"cost": 0.1, "raw": f"{SECRET} x"}}
ERROR_SHAPES = {kind: {"error": HIDDEN_ERROR} for kind in KINDS} | {
    "messages": {"type": "error", "error": HIDDEN_ERROR}
}
NAMING = {"x-model": SECRET, "openai-model": "openrouter-byok", "x-cost": "0.1", "set-cookie": f"m={SECRET}; path=/"}
COUNTING = {
    "/messages/count_tokens": "messages",
    "/responses/input_tokens": "responses",
    "/responses/compact": "responses",
}


def tells_nothing(call: Call) -> bytes:
    """What a client gets, after a check that it names neither model nor cost."""
    head = "".join(f"{name}: {value}\n" for name, value in call.response.getheaders())
    received = call.read()
    shown = head.encode() + received + call.response.reason.encode()
    for hidden in (b"fake/", b": openrouter-byok", b"cost"):
        assert hidden not in shown
    assert call.response.headers["x-model"] == FREE
    return received


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [404, 500])
def test_an_error_names_neither_a_free_model_nor_its_cost(
    status: int, kind: str, stream: bool, gateway: Gateway, provider: Provider
) -> None:
    provider.script(Scenario("names it", lambda call: json_reply(ERROR_SHAPES[kind], status, NAMING)))
    call = gateway.post("/api/gateway" + PATHS[kind], request_body(kind, FREE, stream=stream))
    received = tells_nothing(call)
    assert call.response.status == status
    assert json.loads(received)["error"]["message"] == f"No endpoints found for {FREE}"
    assert SECRET in gateway.row()["error_message"]


@pytest.mark.parametrize("kind", KINDS)
def test_nor_does_an_error_in_a_stream(kind: str, gateway: Gateway, provider: Provider) -> None:
    error = {"type": "response.failed", "response": {"model": SECRET, "status": "failed", "error": HIDDEN_ERROR}}
    shape = error if kind == "responses" else ERROR_SHAPES[kind]
    pieces = [b": %b\n\n" % SECRET.encode(), b"data: %b\n\n" % json.dumps(shape).encode()]
    reply = Reply(content_type="text/event-stream", pieces=pieces, headers=NAMING)
    provider.script(Scenario("names it", lambda call: reply))
    received = tells_nothing(gateway.post("/api/gateway" + PATHS[kind], request_body(kind, FREE)))
    assert f"No endpoints found for {FREE}".encode() in received


@pytest.mark.parametrize(
    ("status", "framing"), [(200, "length"), (200, "chunked"), (200, "close"), (204, "length"), (503, "length")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_nor_does_an_answer_without_a_body(
    kind: str, status: int, framing: Literal["length", "chunked", "close"], gateway: Gateway, provider: Provider
) -> None:
    reply = Reply(status=status, content_type="text/plain", pieces=[], headers=NAMING)
    provider.script(Scenario("says nothing", lambda call: reply, Delivery(framing=framing)))
    assert tells_nothing(gateway.post("/api/gateway" + PATHS[kind], request_body(kind, FREE))) == b""


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("path", COUNTING)
def test_nor_does_an_answer_on_a_side_path(
    path: str, status: int, gateway: Gateway, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = json_reply(ERROR_SHAPES[COUNTING[path]] | {"model": SECRET}, status, NAMING)
    monkeypatch.setattr("tests.provider.server.side_reply", lambda *_: reply)
    received = tells_nothing(gateway.post("/api/gateway" + path, request_body(COUNTING[path], FREE)))
    assert json.loads(received)["model"] == FREE
    assert provider.requests[0].json["model"] == SECRET


def test_an_answer_on_a_side_path_that_cannot_be_read_is_withheld(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Reply(content_type="text/html", pieces=[SECRET.encode()], headers=NAMING)
    monkeypatch.setattr("tests.provider.server.side_reply", lambda *_: reply)
    call = gateway.post("/api/gateway/messages/count_tokens", request_body("messages", FREE))
    assert call.response.status == 502
    assert SECRET.encode() not in call.read()


@pytest.mark.parametrize("kind", KINDS)
def test_others_errors_pass_byte_for_byte(kind: str, gateway: Gateway, provider: Provider) -> None:
    provider.script(Scenario("names it", lambda call: json_reply(ERROR_SHAPES[kind], 404, NAMING)))
    call = gateway.post("/api/gateway" + PATHS[kind], request_body(kind, "fake/text"))
    assert call.read() == answer_of(provider.requests[0])
    assert call.response.headers["x-model"] == SECRET


# -- side paths --------------------------------------------------------------------------------------------------------

OWN = {
    "/messages/count_tokens": ("claude/strict", "/claude/v1", "fake/strict", ("x-api-key", KEYS["CLAUDE_KEY"])),
    "/responses/input_tokens": ("secure/text", "/v1", "fake/text", ("authorization", f"Bearer {KEYS['SECURE_KEY']}")),
    "/responses/compact": ("secure/text", "/v1", "fake/text", ("authorization", f"Bearer {KEYS['SECURE_KEY']}")),
}


@pytest.mark.parametrize("path", COUNTING)
def test_a_side_path_goes_to_the_models_own_provider(
    path: str, gateway: Gateway, provider: Provider, secure: Provider
) -> None:
    model, base, upstream, (header, key) = OWN[path]
    gateway.post("/api/gateway" + path, request_body(COUNTING[path], model)).read()
    (received,) = provider.requests + secure.requests
    assert received.path == base + path
    assert (received.json["model"], received.headers[header]) == (upstream, key)


@pytest.mark.parametrize("path", COUNTING)
def test_a_side_path_has_no_reserved_model(path: str, gateway: Gateway, provider: Provider) -> None:
    call = gateway.post("/api/gateway" + path, request_body(COUNTING[path], "acme/nonexistent"))
    assert call.response.status == 404
    assert b"there is no model 'acme/nonexistent'" in call.read()
    assert provider.requests == []


# -- refusals ----------------------------------------------------------------------------------------------------------

WRONG = {"chat_completions": {"messages": "hi"}, "responses": {"input": 5}, "messages": {"messages": "hi"}}
REFUSALS = {
    **{f"{kind}: bad payload": (kind, "fake/text", wrong, 400, "invalid_body", "`") for kind, wrong in WRONG.items()},
    **{f"{kind}: no model": (kind, "", {}, 404, "model_not_found", "names no model") for kind in KINDS},
    **{
        f"{kind}: unknown custom model": (kind, "acme/x", {}, 404, "model_not_found", "there is no model 'acme/x'")
        for kind in KINDS
    },
    **{
        f"{kind}: custom model for chat only": (kind, "acme/chat-only", {}, 404, "kind_not_served", "'acme/chat-only'")
        for kind in ("responses", "messages")
    },
    "messages: provider without it": ("messages", "keyless/text", {}, 404, "kind_not_served", "provider 'keyless'"),
    "chat: provider without it": ("chat_completions", "claude/strict", {}, 404, "kind_not_served", "provider 'claude'"),
}


@pytest.mark.parametrize(("kind", "model", "more", "status", "code", "said"), REFUSALS.values(), ids=list(REFUSALS))
def test_a_refusal_is_the_sdks_own_exception(
    kind: str, model: str, more: dict, status: int, code: str, said: str, gateway: Gateway, provider: Provider
) -> None:
    with pytest.raises(getattr(VENDORS[kind], ERRORS[status]), match=re.escape(said)) as raised:
        ask(sdk(gateway.url, kind), kind, model, stream=True, **more)
    assert getattr(raised.value, "code", code) == code  # anthropic has none
    assert provider.requests == []
    row = gateway.row()
    assert (row["outcome"], row["http_status"]) == ("rejected", status)
    assert said in row["error_message"]
    assert row["request_model"] == (model or None)
    assert [row[name] for name in ("upstream_model", "provider", "upstream_host", "upstream_path")] == [None] * 4
    assert row["rewrites"] == "[]"


BODIES = {
    "nothing": b"",
    "no JSON": b'{"model": "fake/text", "messages": [',
    "no UTF-8": b'{"model": "fake/text\xff", "messages": []}',
    "an array": b"[]",
    "a number beyond all bounds": b'{"model": "fake/text", "messages": [], "n": %b}' % (b"9" * 5000),
    "nested too deeply": b'{"model": "fake/text", "messages": %b}' % (b"[" * 200_000),
    "a number for a model": b'{"model": 5, "messages": []}',
    "two models": b'{"model": "fake/text", "messages": [], "model": "fake/tools"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_a_body_that_cannot_be_read_is_not_forwarded(body: bytes, gateway: Gateway, provider: Provider) -> None:
    call = gateway.post("/api/gateway/v1/chat/completions", body)
    assert call.response.status == 400
    assert json.loads(call.read())["error"]["code"] == "invalid_body"
    assert provider.requests == []
    assert gateway.row()["outcome"] == "rejected"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("zstd", zstandard.compress(bytes(400_000_000))),
        ("gzip", b"no gzip"),
        ("zstd", zstandard.compress(ODD)[:-9]),
        ("snappy", ODD),
        ("gzip, gzip, gzip, gzip, gzip, gzip", ODD),
    ],
    ids=["bomb", "corrupt", "cut off", "unknown", "stacked"],
)
def test_a_body_that_cannot_be_decoded_is_not_forwarded(
    encoding: str, body: bytes, gateway: Gateway, provider: Provider
) -> None:
    call = gateway.post("/api/gateway/v1/messages", body, {"content-encoding": encoding})
    assert call.response.status == 400
    assert json.loads(call.read())["error"]["type"] == "invalid_request_error"
    assert provider.requests == []
    assert gateway.row()["request_bytes"] == len(body)


def test_unknown_paths_are_refused_in_the_clients_shape_and_leave_no_row(gateway: Gateway, provider: Provider) -> None:
    with pytest.raises(openai.BadRequestError, match="no POST /api/gateway/embeddings") as raised:
        sdk(gateway.url, "responses").embeddings.create(model="m", input="x")
    assert raised.value.code == "unknown_path"
    with pytest.raises(anthropic.BadRequestError, match="no GET /api/gateway/v1/messages/batches") as raised_too:
        sdk(gateway.url, "messages").messages.batches.list()
    assert cast(Any, raised_too.value.body)["error"]["type"] == "invalid_request_error"
    for path in (
        "/api/gateway/../keys",
        "/api/gateway/v1/%2e%2e/keys",
        "/api/gateway//messages",
        "/api/gateway/messages?q=\N{LATIN SMALL LETTER E WITH ACUTE}",
    ):
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        assert _exchange(gateway, head.encode()).startswith(b"HTTP/1.1 400 ")
    assert provider.requests == []
    ask(sdk(gateway.url, "messages"), "messages", "fake/text")
    gateway.row()  # the one of the last call


def _exchange(gateway: Gateway, sent: bytes) -> bytes:
    """What these bytes are answered until the connection ends."""
    with socket.create_connection(("127.0.0.1", int(gateway.url.split(":")[-1])), timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_refused_head_has_no_body(gateway: Gateway, provider: Provider) -> None:
    """It would be read as the start of the next answer."""
    answers = _exchange(
        gateway,
        b"HEAD /api/gateway HTTP/1.1\r\nhost: localhost\r\n\r\n"
        b"GET /api/gateway/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    head, _, rest = answers.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert rest.startswith(b"HTTP/1.1 200")


# -- access ------------------------------------------------------------------------------------------------------------

PAGE = {"origin": "https://page.example"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_in_a_browser_needs_a_token(kind: str, gateway: Gateway, provider: Provider) -> None:
    with pytest.raises(VENDORS[kind].AuthenticationError, match="client token"):
        ask(sdk(gateway.url, kind), kind, "fake/text", extra_headers=PAGE)
    assert provider.requests == []
    assert (gateway.row()["outcome"], gateway.row()["http_status"]) == ("rejected", 401)
    ask(sdk(gateway.url, kind, key=CLIENT), kind, "fake/text", extra_headers=PAGE)
    assert provider.requests[0].headers["authorization"] == f"Bearer {KEYS['TOY_KEY']}"


@pytest.mark.skipif(not own_address(), reason="this machine has only a loopback address")
@pytest.mark.parametrize("kind", KINDS)
def test_another_machine_needs_a_token_whatever_it_says_of_itself(
    kind: str, gateway: Gateway, provider: Provider
) -> None:
    url = f"http://{own_address()}:{_port_of(gateway, own_address())}"
    remote = copy.copy(gateway)
    remote.url = url
    claims = {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1", "x-real-ip": "::1", "x-user": "admin"}
    with pytest.raises(VENDORS[kind].AuthenticationError, match="client token"):
        ask(sdk(remote.url, kind), kind, "fake/text", extra_headers=claims)
    assert provider.requests == []
    for key in (CLIENT, ADMIN):
        ask(sdk(remote.url, kind, key=key), kind, "fake/text")
    assert {received.headers["authorization"] for received in provider.requests} == {f"Bearer {KEYS['TOY_KEY']}"}


def _port_of(gateway: Gateway, address: str) -> str:
    _, _, behind = gateway.proxy.stdout.partition(f"listening at {address}:")
    return behind.split(".")[0]


@pytest.mark.parametrize("token", [CLIENT, CLIENT.replace("-", "%2d"), ADMIN.replace("-", "%252D")])
def test_a_token_in_the_url_is_refused(token: str, gateway: Gateway, provider: Provider) -> None:
    call = gateway.post(f"/api/gateway/messages?key={token}", request_body("messages", "fake/text"))
    assert call.response.status == 401
    assert provider.requests == []


@pytest.fixture(scope="module")
def guarded(
    session_provider: Provider, config: Path, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway in front of a host that is down and that nobody named, with an API kind for the admin only."""
    folder = tmp_path_factory.mktemp("guarded")
    text = config.read_text().replace('default_provider = "toy"\n', "")
    (folder / "gateway.toml").write_text(f'{text}\n[access]\nadmin_only_kinds = ["responses"]\n')
    db = folder / "gateway.db"
    options = {"gateway_db": db, "gateway_config": folder / "gateway.toml"}
    with Mitmdump("http://127.0.0.1:9", confdir=confdir, options=options, env=KEYS | TOKENS) as proxy:
        proxy.wait_for("gateway-addon 0")
        yield Gateway(proxy, db)


@pytest.mark.parametrize("key", ["anything", CLIENT])
def test_an_admin_only_kind_is_for_the_admin_token_only(key: str, guarded: Gateway, provider: Provider) -> None:
    model = "acme/openrouter-byok"
    with pytest.raises(openai.PermissionDeniedError, match="administrator") as raised:
        ask(sdk(guarded.url, "responses", key=key), "responses", model, extra_headers={"x-role": "admin"})
    assert raised.value.code == "admin_only"
    assert provider.requests == []
    ask(sdk(guarded.url, "responses", key=ADMIN), "responses", model)
    assert [received.path for received in provider.requests] == ["/toy/v1/responses"]


def test_no_key_goes_to_a_host_that_nobody_named(guarded: Gateway, provider: Provider) -> None:
    with pytest.raises(anthropic.NotFoundError, match=r"no provider configured for 127\.0\.0\.1"):
        ask(sdk(guarded.url, "messages"), "messages", "fake/text")
    with pytest.raises(openai.NotFoundError, match="no provider configured"):
        sdk(guarded.url, "chat_completions").models.list()
    assert provider.requests == []


def test_a_listener_whose_own_target_is_down_serves_other_providers(guarded: Gateway, provider: Provider) -> None:
    """Only with `connection_strategy=lazy`, which the addon sets by itself."""
    answer = ask(sdk(guarded.url, "messages"), "messages", "acme/openrouter-byok")
    assert text_of("messages", answer, stream=False) == SAID


# -- HTTP/2 ------------------------------------------------------------------------------------------------------------


class Http2:
    """A client that speaks HTTP/2 over TLS to a listener, one call a connection, with any bytes in the path."""

    def __init__(self, url: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        port = int(url.split(":")[-1])
        self._socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20))
        assert self._socket.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(validate_outbound_headers=False)
        self._connection = h2.connection.H2Connection(config)
        self._connection.initiate_connection()

    def post(self, path: str, body: object) -> tuple[dict[str, str], bytes]:
        """Headers (with `:status`) and body of the answer."""
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self._connection.send_headers(1, [*head, ("content-type", "application/json")])
        self._connection.send_data(1, json.dumps(body).encode(), end_stream=True)
        headers: dict[str, str] = {}
        answer = b""
        with self._socket:
            while True:
                self._socket.sendall(self._connection.data_to_send())
                data = self._socket.recv(65536)
                assert data, "the connection ended before the answer"
                for event in self._connection.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        headers = {_text(name): _text(value) for name, value in event.headers or []}
                    elif isinstance(event, h2.events.DataReceived):
                        answer += event.data or b""
                    elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                        return headers, answer


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("kind", KINDS)
def test_a_rewritten_answer_over_http_2(kind: str, stream: bool, gateway: Gateway, provider: Provider) -> None:
    body = request_body(kind, "acme/openrouter-byok", stream=stream)
    headers, received = Http2(gateway.url).post("/api/gateway" + PATHS[kind], body)
    assert headers[":status"] == "200"
    assert "transfer-encoding" not in headers
    assert b"acme/openrouter-byok" in received
    assert b"fake/" not in received
    assert gateway.row()["outcome"] == "complete"


@pytest.mark.parametrize("query", ["a b", "a HTTP/1.1 x", "a=\x7f", "a=\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_query_cannot_end_the_request_line(query: str, gateway: Gateway, provider: Provider) -> None:
    headers, received = Http2(gateway.url).post(f"/api/gateway/messages?{query}", request_body("messages", "fake/text"))
    assert headers[":status"] == "400"
    assert b"unknown_path" in received or b"no URL has" in received
    assert provider.requests == []


# -- where the gateway is no gateway -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_proxy_only_observes_the_same_paths(kind: str, gateway: Gateway, provider: Provider) -> None:
    path = "/api/openrouter" + PATHS[kind]
    body = json.dumps(request_body(kind, "fake/openrouter-byok")).encode()
    headers = {"authorization": "Bearer of-the-client", "host": provider.url.removeprefix("http://")}
    received = Call(gateway.proxy.urls[1], provider.url + path, body, headers).read()
    (sent,) = provider.requests
    assert (sent.path, sent.body, sent.headers["authorization"]) == (path, body, "Bearer of-the-client")
    assert received == answer_of(sent)
    row = gateway.row()
    assert (row["outcome"], row["upstream_path"], row["rewrites"]) == ("complete", path, "[]")


@pytest.fixture(scope="module")
def observing(
    session_provider: Provider, config: Path, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    db = tmp_path_factory.mktemp("observing") / "gateway.db"
    options = {"gateway_db": db, "gateway_config": config, "gateway_rewrite": "false"}
    with Mitmdump(session_provider.url, confdir=confdir, options=options, env=KEYS | TOKENS) as proxy:
        proxy.wait_for("gateway-addon 0")
        yield Gateway(proxy, db)


def test_without_rewriting_nothing_is_changed_or_refused(observing: Gateway, provider: Provider) -> None:
    headers = {"authorization": "Bearer of-the-client", "origin": "https://page.example"}
    for kind, path in PATHS.items():
        body = json.dumps(request_body(kind, "fake/openrouter-byok", models=[1])).encode()
        received = observing.post("/api/gateway" + path, body, headers).read()
        sent = provider.requests[-1]
        assert (sent.path, sent.body, sent.headers["authorization"]) == (
            "/api/gateway" + path,
            body,
            "Bearer of-the-client",
        )
        assert received == answer_of(sent)
    assert observing.post("/api/gateway/nothing", b"").response.status == 404
    assert provider.requests[-1].path == "/api/gateway/nothing"
    for row in observing.rows(3):
        assert (row["outcome"], row["rewrites"], row["cost_microdollars"]) == ("complete", "[]", 10_000)


# -- starting ----------------------------------------------------------------------------------------------------------


def test_the_line_at_start_names_keys_by_their_variables(running: Gateway, observing: Gateway) -> None:
    line = _start_line(running.proxy.stdout)
    assert str(running.db) in line
    assert "reverse:http://127.0.0.1:" in line
    assert "regular@127.0.0.1:" in line
    assert "providers: toy, claude, keyless, secure, impostor, vercel, openrouter, openai, anthropic" in line
    assert "keys injected: toy (TOY_KEY), claude (CLAUDE_KEY), secure (SECURE_KEY), impostor (SECURE_KEY)" in line
    assert "gateway below /api/gateway" in line
    line = _start_line(observing.proxy.stdout)
    assert ": observing, rows go to" in line
    assert "keys injected: none" in line


def _start_line(stdout: str) -> str:
    (line,) = (line for line in stdout.splitlines() if "gateway-addon 0" in line)
    return line
