"""A secret of the gateway, echoed by an upstream or misplaced by a client, reaches no file and no console, while the
client gets every byte of it."""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.faults.upstream import RawUpstream, exchange, get, http, post
from tests.mitmdump import Mitmdump, http_flows, rows, run_on_file

KEY = "key-of-toy/+6e1f0c93"
TOKEN = "client-token-93aa51"
SECRETS = {"TOY_KEY": KEY, "GATEWAY_TOKEN": TOKEN}

CONFIG = """
default_provider = "toy"
[providers.toy]
api_url = "URL/v1"
api_kinds = ["chat_completions", "responses", "messages"]
dialect = "openrouter"
api_key_env = "TOY_KEY"
"""


def said(text: str, **more: Any) -> bytes:
    """A whole Chat Completions answer."""
    message = {"role": "assistant", "content": text} | more
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}).encode()


def streamed(*deltas: dict[str, Any]) -> bytes:
    events = [{"id": "c", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def calling(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"id": "t", "type": "function", "function": {"name": "bash", "arguments": arguments}}]}


def tool_delta(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "bash", "arguments": arguments}}]}


ERROR = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "type": "auth"}}).encode()
EVERY = "".join(f"\\u{ord(character):04X}" for character in KEY)
ENTITIES = "".join(f"&#{ord(character)};" for character in KEY)
BASIC = base64.b64encode(f"user:{KEY}".encode()).decode()

ECHOES = {
    "error text": http("401 Unauthorized", ERROR),
    "error in gzip": http("401 Unauthorized", gzip.compress(ERROR), "content-encoding: gzip"),
    "error as a page": http("401 Unauthorized", f"<h1>{KEY}</h1>".encode(), label="text/html"),
    "header": http("200 OK", said("hello"), f"x-echo: Bearer {KEY}"),
    "cookie": http("200 OK", said("hello"), f"set-cookie: key={quote(KEY, safe='')}; Path=/"),
    "redirect": http("302 Found", b"", f"location: https://other.test/?key={quote(KEY, safe='')}"),
    "reason phrase": http(f"400 {KEY}", b"{}"),
    "no http": f"-ERR unknown command {KEY}\r\n".encode(),
    "text": http("200 OK", said(f"your key is {KEY}")),
    "text, escaped": http("200 OK", said("SPOT").replace(b"SPOT", EVERY.encode())),
    "text, slash escaped": http("200 OK", said("SPOT").replace(b"SPOT", KEY.replace("/", "\\/").encode())),
    "text, percent-encoded": http("200 OK", said(f"https://x.test/?k={quote(KEY, safe='').lower()}")),
    "basic": http("200 OK", said("hello"), f"x-echo: Basic {BASIC}"),
    "tool arguments": http("200 OK", said("", **calling(json.dumps({"key": KEY, "json": json.dumps({"key": EVERY})})))),
    "usage": http("200 OK", said("x").replace(b'"prompt_tokens"', f'"note": "{KEY}", "prompt_tokens"'.encode())),
    "id": http("200 OK", said("x").replace(b'"id": "c"', f'"id": "{KEY}"'.encode())),
    "request id": http("200 OK", said("x"), f"x-request-id: {KEY}"),
    "event": http("200 OK", streamed({"content": KEY}), label="text/event-stream"),
    "events": http(
        "200 OK", streamed({"content": "is it " + KEY[:9]}, {"content": KEY[9:] + "?"}), label="text/event-stream"
    ),
    "arguments in events": http(
        "200 OK", streamed(*(tool_delta(c) for c in json.dumps({"k": KEY}))), label="text/event-stream"
    ),
    "events in gzip": http(
        "200 OK", gzip.compress(streamed({"content": KEY})), "content-encoding: gzip", label="text/event-stream"
    ),
    "damaged gzip": http("200 OK", gzip.compress(said(KEY) * 50, 0)[:-9] + b"?????????", "content-encoding: gzip"),
    "page of entities": http("401 Unauthorized", f"<h1>{ENTITIES}</h1>".encode(), label="text/html"),
    "utf-16": http("401 Unauthorized", ERROR.decode().encode("utf-16")),
    "deflate": http("200 OK", zlib.compress(said(KEY)), "content-encoding: deflate"),
}
"""Answers to a call, by where the key is in them."""

CALL = json.dumps({"model": "m", "messages": [{"role": "user", "content": f"why is {TOKEN} refused?"}]}).encode()
SHOWN = f"authorization: Bearer {TOKEN}"

REQUESTS = {
    "models": get("/api/gateway/models", SHOWN),
    "native": post("/v1/chat/completions", CALL, SHOWN),
    "api-key": post("/v1/chat/completions", CALL, f"api-key: {TOKEN}"),
    "cookie": post("/v1/chat/completions", CALL, f"cookie: a=b; token={TOKEN}"),
    "query": post(f"/v1/chat/completions?key={TOKEN}", CALL),
    "no call": post(f"/other/{TOKEN}?key={KEY}", TOKEN.encode(), f"x-key: {KEY}"),
    "compressed": post("/v1/chat/completions", gzip.compress(CALL), "content-encoding: gzip"),
}
"""Requests, by where one of the gateway's secrets is in them, or what they ask for."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream() as upstream:
        yield upstream


class Proxies:
    """A proxy with the addon, and one without, before the same upstream; what the former leaves is in `folder`."""

    def __init__(self, folder: Path, proxy: Mitmdump, bare: Mitmdump) -> None:
        self.folder, self.proxy, self.bare = folder, proxy, bare


@pytest.fixture(scope="module")
def proxies(upstream: RawUpstream, confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxies]:
    folder = tmp_path_factory.mktemp("echoes")
    config = folder / "gateway.toml"
    config.write_text(CONFIG.replace("URL", upstream.url))
    options = {
        "gateway_db": folder / "gateway.db",
        "gateway_config": config,
        "save_stream_file": folder / "all.flow",
        "hardump": folder / "all.har",
        "flow_detail": 4,
        "termlog_verbosity": "debug",
    }
    with (
        Mitmdump(upstream.url, confdir=confdir, options=options, env=SECRETS) as proxy,
        Mitmdump(upstream.url, confdir=confdir, addon=None, options={"connection_strategy": "lazy"}) as bare,
    ):
        yield Proxies(folder, proxy, bare)


@pytest.fixture(scope="module")
def answers(upstream: RawUpstream, proxies: Proxies) -> dict[str, tuple[bytes, bytes]]:
    """What the clients got with the addon, and without it, for each echo and request. Then the proxy has ended."""
    got: dict[str, tuple[bytes, bytes]] = {}
    gateway = post("/api/gateway/chat/completions", CALL, SHOWN)
    for name, answer in ECHOES.items():
        upstream.answer = lambda head, answer=answer: answer  # type: ignore[misc]
        got[name] = exchange(proxies.proxy.url, gateway), exchange(proxies.bare.url, gateway)
    upstream.answer = lambda head: http("401 Unauthorized", ERROR, f"x-echo: {KEY}")
    for name, request in REQUESTS.items():
        got[f"to {name}"] = exchange(proxies.proxy.url, request), exchange(proxies.bare.url, request)
    assert proxies.proxy.stop() == 0
    return got


@pytest.mark.parametrize("name", [*ECHOES, *(f"to {name}" for name in REQUESTS)])
def test_the_client_gets_every_byte(name: str, answers: dict[str, tuple[bytes, bytes]]):
    with_addon, without = answers[name]
    assert with_addon == without


SPELLINGS = (
    *(secret for secret in SECRETS.values()),
    quote(KEY, safe=""),
    quote(KEY, safe="").lower(),
    KEY.replace("/", "\\/"),
    EVERY,
    BASIC[8:-4],
    ENTITIES,
    KEY.encode("utf-16-le").decode(),
)


@pytest.mark.usefixtures("answers")
class TestNothingIsLeft:
    @pytest.mark.parametrize("name", ["gateway.db", "all.flow", "all.har"])
    def test_in_a_file(self, proxies: Proxies, name: str):
        files = list(proxies.folder.glob(f"{name}*"))
        assert files
        data = b"".join(file.read_bytes() for file in files)
        assert [spelling for spelling in SPELLINGS if spelling.encode() in data] == []

    def test_in_bodies_that_are_packed(self, proxies: Proxies):
        flows = http_flows(proxies.folder / "all.flow")
        assert len(flows) == len(ECHOES) + len(REQUESTS)
        for flow in flows:
            for message in filter(None, (flow.request, flow.response)):
                text = message.get_content(strict=False) or b""
                assert not [spelling for spelling in SPELLINGS if spelling.encode() in text]
                assert "".join(re_joined(text)).find(KEY) < 0

    def test_on_the_console(self, proxies: Proxies):
        assert [spelling for spelling in SPELLINGS if spelling in proxies.proxy.stdout] == []

    def test_the_rows_say_so(self, proxies: Proxies):
        found = rows(proxies.folder / "gateway.db", "SELECT warnings, request_sha256 FROM requests")
        assert len(found) == len(ECHOES) + len(REQUESTS) - 2
        assert all('"secret_masked"' in row["warnings"] for row in found)

    def test_stored_bodies_are_what_their_hashes_say(self, proxies: Proxies):
        from click.testing import CliRunner

        from gateway_addon.cli import main

        done = CliRunner().invoke(main, ["verify", str(proxies.folder / "gateway.db")])
        assert ": 0 damaged" in done.output

    def test_the_file_gives_the_same_texts_again(self, proxies: Proxies, confdir: Path, tmp_path: Path):
        assert run_on_file(proxies.folder / "all.flow", tmp_path / "again.db", confdir=confdir).returncode == 0
        sql = "SELECT id, usage, response_id, request_sha256, warnings FROM requests ORDER BY id"
        assert rows(tmp_path / "again.db", sql) == rows(proxies.folder / "gateway.db", sql)
        sql = "SELECT error_message, answer_text FROM requests LEFT JOIN answers ON request_id = id ORDER BY id"
        texts = [
            # a secret that was escaped is masked at the length it was written in
            [re.sub(r"\*+", "***", text or "") for row in rows(folder, sql) for text in row.values()]
            for folder in (tmp_path / "again.db", proxies.folder / "gateway.db")
        ]
        assert texts[0] == texts[1]


def re_joined(stream: bytes) -> Iterator[str]:
    """The texts of a Chat Completions stream's deltas."""
    for line in stream.decode("utf-8", "replace").splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: ")).get("choices", []):
                delta = choice.get("delta", {})
                yield delta.get("content", "")
                yield "".join(call["function"]["arguments"] for call in delta.get("tool_calls", []))
