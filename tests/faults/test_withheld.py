"""A free model's answer that cannot be read reaches no client, whatever it is: its name and its cost stay hidden. The
row keeps the truth, and the saved flow the answer as received."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import request_body
from tests.faults.upstream import RawUpstream, exchange, get, http, post
from tests.mitmdump import Mitmdump, http_flows, rows

NAME = "vendor/its-true-name"
KINDS = ["chat_completions", "responses", "messages"]

CONFIG = """
default_provider = "toy"
[providers.toy]
api_url = "URL/v1"
api_kinds = ["chat_completions", "responses", "messages"]
[models]
"acme/free" = { provider = "toy", model = "vendor/its-true-name", free = true }
"""

GOOD = json.dumps({"id": "x", "model": NAME}).encode()
EVENT = b"data: " + GOOD + b"\n\n"
SSE = "text/event-stream"


def chunked(body: bytes, *headers: str) -> bytes:
    """The head and body of a stream."""
    head = "\r\n".join(["HTTP/1.1 200 OK", f"content-type: {SSE}", "transfer-encoding: chunked", *headers, "", ""])
    return head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


WHOLE = {
    "no JSON": http("200 OK", f"served by {NAME}".encode()),
    "cut JSON": http("200 OK", GOOD[:-1]),
    "a list": http("200 OK", b"[" + GOOD + b"]"),
    "an error page": http("500 Oops", f"<h1>{NAME} failed</h1>".encode(), label="text/html"),
    "too many": http("429 Slow down", NAME.encode(), label="text/plain"),
    "unknown encoding": http("200 OK", GOOD, "content-encoding: rot13"),
    "no gzip": http("200 OK", GOOD, "content-encoding: gzip"),
    "cut gzip": http("200 OK", gzip.compress(GOOD)[:-12], "content-encoding: gzip"),
}
STREAMS = {
    "cut last event": (EVENT, EVENT[:-9]),
    "no JSON": (EVENT, b"data: " + NAME.encode() + b"\n\n" + EVENT),
    "a list": (EVENT, b"data: [" + GOOD + b"]\n\n"),
    "no field": (EVENT, GOOD + b"\n\n"),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("withheld")


@pytest.fixture(scope="module")
def proxy(upstream: RawUpstream, confdir: Path, folder: Path) -> Iterator[Mitmdump]:
    config = folder / "gateway.toml"
    config.write_text(CONFIG.replace("URL", upstream.url))
    options = {
        "gateway_db": folder / "gateway.db",
        "gateway_config": config,
        "save_stream_file": folder / "all.flow",
        "connection_strategy": "lazy",
    }
    with Mitmdump(upstream.url, confdir=confdir, options=options) as proxy:
        yield proxy


def ask(proxy: Mitmdump, kind: str, *, stream: bool) -> tuple[int, bytes]:
    path = f"/api/gateway/{kind.replace('_', '/')}"
    body = json.dumps(request_body(kind, "acme/free", stream=stream)).encode()
    head, _, rest = exchange(proxy.url, post(path, body)).partition(b"\r\n\r\n")
    assert NAME.encode() not in head + rest
    return int(head.split()[1]), rest


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_answer_is_a_502(kind: str, name: str, upstream: RawUpstream, proxy: Mitmdump):
    upstream.answer = lambda head: WHOLE[name]
    status, body = ask(proxy, kind, stream=False)
    assert status == 502
    error = json.loads(body)["error"]
    assert (error["type"], error.get("code")) == (
        ("api_error", None) if kind == "messages" else ("server_error", "answer_withheld")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_stream_was_asked_for_the_head_does_not_wait(kind: str, upstream: RawUpstream, proxy: Mitmdump):
    """It may be a stream under a wrong label: then the error is the body."""
    upstream.answer = lambda head: WHOLE["cut JSON"]
    status, body = ask(proxy, kind, stream=True)
    assert status == 200
    assert b"withheld" in body


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_ends_with_an_error_event(kind: str, name: str, upstream: RawUpstream, proxy: Mitmdump):
    upstream.answer = lambda head: chunked(b"".join(STREAMS[name]))
    status, body = ask(proxy, kind, stream=True)
    events = body.split(b"data: ")
    assert status == 200
    assert b"acme/free" in events[1]
    error = json.loads(events[2].split(b"\n")[0])
    assert "withheld" in json.dumps(error)
    assert events[1].rstrip().endswith(b"event: error") == (kind != "chat_completions")
    assert body.endswith(b"\r\n0\r\n\r\n")
    assert len(events) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_in_an_unknown_encoding_is_an_error_event(kind: str, upstream: RawUpstream, proxy: Mitmdump):
    upstream.answer = lambda head: chunked(EVENT, "content-encoding: rot13")
    status, body = ask(proxy, kind, stream=True)
    assert status == 200
    assert body.count(b"data: ") == 1
    assert b"withheld" in body


def test_a_good_answer_is_changed_and_goes_with_its_own_status(upstream: RawUpstream, proxy: Mitmdump):
    upstream.answer = lambda head: http("201 Fine", GOOD, "x-cost: 5")
    status, body = ask(proxy, "chat_completions", stream=False)
    assert (status, json.loads(body)["model"]) == (201, "acme/free")


@pytest.mark.parametrize("packed", [False, True])
def test_a_stored_answer_of_a_free_model_is_changed_and_no_other(upstream: RawUpstream, proxy: Mitmdump, packed: bool):
    """Nothing in the request tells whose it is."""
    for name in (NAME, "vendor/other"):
        body = b'{"object": "response", "model": "%b", "usage": {"input_tokens": 1, "cost": 1}}' % name.encode()
        headers = ["content-encoding: gzip"] if packed else []
        upstream.answer = lambda head, body=body, headers=headers: http(  # type: ignore[misc]
            "200 OK", gzip.compress(body) if packed else body, *headers
        )
        received = exchange(proxy.url, get("/api/gateway/responses/resp_1")).partition(b"\r\n\r\n")[2]
        if name == NAME:
            assert received == b'{"object": "response", "model": "acme/free", "usage": {"input_tokens": 1}}'
        else:
            assert (gzip.decompress(received) if packed else received) == body
    assert b"accept-encoding: identity" in upstream.heads[-1].lower()


def test_the_rows_and_the_flows_keep_the_truth(upstream: RawUpstream, proxy: Mitmdump, folder: Path):
    upstream.answer = lambda head: WHOLE["too many"]
    ask(proxy, "messages", stream=False)
    assert proxy.stop() == 0
    last = http_flows(folder / "all.flow")[-1]
    assert last.response
    assert (last.response.status_code, last.response.raw_content) == (429, NAME.encode())
    (row,) = rows(folder / "gateway.db", f"SELECT * FROM requests WHERE id = '{last.id}'")
    assert (row["outcome"], row["http_status"], row["warnings"]) == ("http_error", 429, '["answer_withheld"]')
    found = rows(folder / "gateway.db", "SELECT id FROM requests WHERE warnings NOT LIKE '%answer_withheld%'")
    assert len(found) in (0, 1)
