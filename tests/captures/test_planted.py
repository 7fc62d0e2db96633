"""Secrets are found in every place and shape, and what only looks like one stays."""

import json
import re
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from mitmproxy.http import HTTPFlow, Message
from mitmproxy.test import tflow

from gateway_addon.captures import flowfile
from gateway_addon.captures.finder import Finder
from gateway_addon.captures.redaction import Redactor
from gateway_addon.review.secrets import find_in
from gateway_addon.wire import aws_events, encodings
from tests.captures.planted import AWKWARD, PLACES, SHAPES, TOKEN, aws_chunk
from tests.captures.test_redaction import redacted
from tests.make_flows import FLOWS


def everything(flow: HTTPFlow) -> str:
    """All texts of a flow, decoded and, where events say them in pieces, put together."""
    messages = [message for message in (flow.request, flow.response) if message]
    texts = [repr(flow.get_state()), *(repr(_body(message)) for message in messages)]
    for message in messages:
        body = _body(message)
        match message.headers.get("content-type"):
            case "text/event-stream":
                events = [json.loads(line) for line in re.findall(rb"data: (.*)", body)]
                texts.append("".join(event["choices"][0]["delta"]["content"] for event in events))
            case aws_events.CONTENT_TYPE:
                parsed = aws_events.EventParser().feed(body)
                texts.append("".join(json.loads(event.data)["delta"]["text"] for event in parsed))
    return "\n".join(texts)


def _body(message: Message) -> bytes:
    # mitmproxy takes several header lines for an encoding that it does not know
    encoding = ", ".join(message.headers.get_all("content-encoding"))
    return encodings.decode(message.raw_content or b"", encoding, 1_000_000)


def planted(place: str, secret: str) -> HTTPFlow:
    flow = tflow.tflow(resp=True)
    PLACES[place](flow, secret)
    assert secret in everything(flow) or quote(secret, safe="") in everything(flow)
    return flow


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_without_a_shape_is_found_by_its_place(place: str):
    left = everything(redacted(planted(place, TOKEN)))
    assert TOKEN not in left
    assert "[redacted:" in left


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["github_token", "azure_storage_key"])
def test_a_token_is_found_in_every_place(place: str, kind: str):
    assert TOKEN not in everything(redacted(planted(place, SHAPES[kind] + TOKEN)))


@pytest.mark.parametrize("kind", SHAPES)
def test_a_token_is_found_by_its_shape(kind: str):
    flow = tflow.tflow(resp=True)
    token = SHAPES[kind] + TOKEN
    flow.comment = f"use {token}, please"
    assert re.fullmatch(rf"use \[redacted:{kind}:\w{{8}}\], please", redacted(flow).comment)
    assert kind in find_in([f"use {token}, please"], {}).values()


@pytest.mark.parametrize(
    "written",
    [
        "{}",
        *(b64encode(f"{'x' * before}{AWKWARD} and more".encode()).decode() for before in range(3)),
        quote(AWKWARD, safe=""),
        quote(AWKWARD),
        re.sub("%..", lambda escape: escape[0].lower(), quote(AWKWARD, safe="")),
        json.dumps(AWKWARD),
        json.dumps(json.dumps(AWKWARD)),
    ],
)
def test_what_is_known_from_one_place_is_found_as_it_is_written_elsewhere(written: str):
    flow = tflow.tflow(resp=True)
    flow.request.text = json.dumps({"password": AWKWARD})
    flow.comment = f"it says {written.replace('{}', AWKWARD)}."
    left = redacted(flow).comment
    assert len(re.findall(r"\[redacted:credential:\w{8}\]", left)) == 1
    assert "Gra" not in left


def test_the_password_of_a_basic_authorization_is_known():
    flow = tflow.tflow(resp=True)
    flow.request.headers["authorization"] = f"Basic {b64encode(f'me:{AWKWARD}'.encode()).decode()}"
    flow.comment = f"logged in with {AWKWARD}"
    result = redacted(flow)
    assert AWKWARD not in result.comment
    assert re.fullmatch(r"Basic \[redacted:credential:\w{8}\]", result.request.headers["authorization"])


BODIES = [
    {"max_tokens": 12345678, "usage": {"input_tokens": 11, "token_count": "123456789", "tokenizer": "o200k_base_v1"}},
    {"prompt_cache_key": "019a3f2c-77aa-7bb1", "key": "Zq8mW2rT5yB9", "idempotency_key": "a1b2c3d4e5f6"},
    {"logprobs": [{"token": "Hello", "bytes": [72]}, {"token": " disproportionately"}, {"token": "12345678"}]},
    {"pwd": "/home/someone/project1", "cwd": "/srv/a1"},
    {"next_page_token": "CAUQAA1234567890", "stop_token": "<|end_of_text_1|>"},
    {"properties": {"token": {"type": "string"}, "password": {"type": "string"}}, "required": ["token", "password"]},
    {"type": "thinking", "signature": "Zq8mW2rT5yB9nK4vX7cL3dFh=="},
    {"text": "max_tokens=12345678 token_count: 123456789 prompt_cache_key=abc12345678 sort_key = item12345"},
    {"text": "docker run -u 1000:12345678 image; python --version 3.13.0rc2; see https://host:8080@x and a@b.example"},
    {"text": "token = tokens[index1]; def key(value1): ...; PWD=/home/someone/a1; secret_access_key_for_region_1"},
]


@pytest.mark.parametrize("body", BODIES)
def test_what_only_looks_like_a_secret_stays(body: object):
    flow = tflow.tflow(resp=True)
    flow.request.text = json.dumps(body)
    assert json.loads(redacted(flow).request.text or "") == body
    assert find_in([json.dumps(body)], {}) == {}


@pytest.mark.parametrize("path", sorted(FLOWS.glob("*.flow")), ids=lambda path: path.stem)
def test_in_the_catalogue_is_nothing_to_be_found(path: Path):
    finder = Finder(b"a key for tests")
    redactor = Redactor(finder)
    for flow in flowfile.read(path):
        redactor.learn(flow.get_state())
    assert set(finder.kinds) <= {"sk-demo-not-a-key", "any"}


def test_messages_of_an_event_stream_fit_their_new_length():
    said = aws_chunk({"delta": {"text": f"password='{TOKEN}'"}})
    other = aws_chunk({"delta": {"text": "nothing"}})
    flow = tflow.tflow(resp=True)
    assert flow.response
    flow.response.headers["content-type"] = aws_events.CONTENT_TYPE
    flow.response.content = said + other + said[:-3]
    result = redacted(flow).response
    assert result
    assert result.content
    parser = aws_events.EventParser()
    events = parser.feed(result.content)
    assert [json.loads(event.data)["delta"]["text"][:9] for event in events] == ["password=", "nothing"]
    assert parser.skipped == 0
    assert events[1].raw == other


# ---- What is said of it ----


def test_the_report_says_what_was_replaced_and_what_nobody_looked_into(tmp_path: Path):
    source, target = tmp_path / "in.flow", tmp_path / "out.flow"
    pictures = [tflow.tflow(resp=True) for _ in range(2)]
    for flow in pictures:
        assert flow.response
        flow.response.headers["content-type"] = "image/png"
        flow.response.content = b"\x89PNG\r\n\0\0\xff\xfe"
    unknown, known = tflow.tflow(resp=True), tflow.tflow(resp=True)
    unknown.request.headers["content-encoding"] = "compress"
    unknown.request.raw_content = b"\x1f\x9d\x90"
    known.comment = f"{SHAPES['github_token']}{TOKEN} {SHAPES['npm_token']}{TOKEN} {SHAPES['npm_token']}{TOKEN}2"
    with source.open("wb") as file:
        flowfile.write_states(file, [flow.get_state() for flow in (*pictures, unknown, known, tflow.ttcpflow())])
    assert flowfile.redact_file(source, target).splitlines() == [
        "5 flows, 4 different secrets replaced",
        "  replaced: 2 npm_token, 1 body, 1 github_token",
        "  not looked into: 2 image/png, 1 body in the encoding 'compress' (replaced as a whole)",
    ]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_redacted_holds_nothing_more_to_redact(place: str):
    once = redacted(planted(place, TOKEN))
    assert redacted(once, Finder(b"another")).get_state() == once.get_state()
