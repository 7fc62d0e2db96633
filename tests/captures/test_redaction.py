"""What redaction finds in a flow, what takes its place, and what stays as it was."""

import json
import re
import tomllib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow
from mitmproxy.test import tflow

from gateway_addon.captures.finder import Finder, read_rules
from gateway_addon.captures.redaction import Redactor
from gateway_addon.credentials import environment_secrets, is_credential
from gateway_addon.wire import encodings
from tests.provider.delivery import cr_line_ends, mixed_line_ends, two_data_lines

KEY = b"a key for tests"
PLACEHOLDER = re.compile(r"\[redacted:[\w.-]+:[0-9a-f]{8}\]")

TOKEN = "sk-ant-planted-0123456789"
"""Found by its shape, wherever it stands."""
PASSWORD = "planted/Passwort+ä1"
"""Found where its place tells what it is, and then everywhere."""


def redacted(flow: HTTPFlow, finder: Finder | None = None) -> HTTPFlow:
    """The flow as it is after redaction, loaded again by mitmproxy."""
    redactor = Redactor(finder or Finder(KEY))
    redactor.learn(flow.get_state())
    loaded = Flow.from_state(redactor.redact(flow.get_state()))
    assert isinstance(loaded, HTTPFlow)
    return loaded


def redact_text(text: str, finder: Finder | None = None) -> str:
    """A text as the comment of a flow, where nothing but the text itself tells what is secret."""
    flow = tflow.tflow()
    flow.comment = text
    return redacted(flow, finder).comment


def asking(body: object, **headers: str) -> HTTPFlow:
    flow: HTTPFlow = tflow.tflow(resp=True)
    flow.request.text = body if isinstance(body, str) else json.dumps(body)
    for name, value in headers.items():
        flow.request.headers[name.replace("_", "-")] = value
    return flow


def answered(body: bytes, content_type: str = "text/event-stream", encoding: str = "") -> HTTPFlow:
    flow: HTTPFlow = tflow.tflow(resp=True)
    assert flow.response
    flow.response.headers["content-type"] = content_type
    if encoding:
        flow.response.headers["content-encoding"] = encoding
    flow.response.raw_content = body
    flow.response.headers["content-length"] = str(len(body))
    return flow


def answer_of(flow: HTTPFlow) -> bytes:
    assert flow.response
    assert flow.response.raw_content is not None
    return flow.response.raw_content


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("anthropic_key", "sk-ant-api03-abcdefghijklmnop"),
        ("openrouter_key", "sk-or-v1-0123456789abcdef"),
        ("openai_key", "sk-proj-abcdefghijklmnop_QRST"),
        ("github_token", "ghp_abcdefghijklmnopqrst0123"),
        ("github_token", "github_pat_11ABCDEFG0abcdefghij"),
        ("gitlab_token", "glpat-abcdefghijklmnopqrst"),
        ("aws_key_id", "AKIAABCDEFGHIJKLMNOP"),
        ("slack_token", "xoxb-1234567890-abcdef"),
        ("google_key", "AIzaSyA-abcdefghijklmnopqrstuvwxyz01234"),
        ("jwt", "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abc-DEF_123"),
        ("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----"),
    ],
)
def test_tokens_are_known_by_their_shape(kind: str, token: str):
    text = redact_text(f"before '{token}' after")
    assert re.fullmatch(rf"before '\[redacted:{kind}:[0-9a-f]{{8}}\]' after", text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("see https://host/v1?a=1&api_key=tiny&b=2", "tiny"),
        ("https://user:word@host/path", "word"),
        ("curl -H 'Authorization: Bearer opaque-1234'", "opaque-1234"),
        ("export TOY_API_KEY=opaque1234", "opaque1234"),
        ('db_password = "opaque1234"', "opaque1234"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut off here", "MIIE cut off here"),
    ],
)
def test_what_stands_in_front_tells_a_secret_too(text: str, secret: str):
    result = redact_text(text)
    assert secret not in result
    assert PLACEHOLDER.search(result)


@pytest.mark.parametrize(
    "text",
    [
        "the task-manager-of-the-whole-team asks for risk-assessment-templates",
        "token = os.environ.get('TOKEN')",
        "max_tokens: 4096, input_tokens: 12345678",
        "a bearer token is needed",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "authorization: Bearer {gateway:openrouter}",
        "mitmdump --mode reverse:http://127.0.0.1:40123@127.0.0.1:8080",
        "[redacted:credential:0123abcd]",
    ],
)
def test_other_text_is_left_alone(text: str):
    assert redact_text(text) == text


CREDENTIALS = """
    Authorization proxy-authorization x-api-key api-key X-Goog-Api-Key Cookie Set-Cookie chatgpt-account-id
    x-amz-security-token client_secret accessToken refresh_token password apiKey authorization_token
"""
OTHERS = """
    content-type idempotency-key x-ratelimit-remaining-tokens max_tokens token key prompt_cache_key x-author
"""


@pytest.mark.parametrize("name", CREDENTIALS.split())
def test_names_of_credentials(name: str):
    assert is_credential(name)


@pytest.mark.parametrize("name", OTHERS.split())
def test_names_of_other_things(name: str):
    assert not is_credential(name)


def test_a_credential_header_keeps_its_scheme_and_names():
    flow = asking({}, authorization=f"Bearer {PASSWORD}", cookie="theme=dark; sid=abc-12345")
    assert flow.response
    flow.response.headers["set-cookie"] = "sid=abc-12345; path=/; secure"
    result = redacted(flow)
    assert result.response
    assert re.fullmatch(rf"Bearer {PLACEHOLDER.pattern}", result.request.headers["authorization"])
    cookie = re.fullmatch(
        rf"theme={PLACEHOLDER.pattern}; sid=({PLACEHOLDER.pattern})", result.request.headers["cookie"]
    )
    assert cookie
    assert result.response.headers["set-cookie"] == f"sid={cookie[1]}; path=/; secure"


def test_the_placeholder_of_a_provider_key_stays_for_client_replay():
    flow = asking({}, authorization="Bearer {gateway:openrouter}", x_api_key="{gateway:anthropic}")
    assert redacted(flow).request.headers.fields == flow.request.headers.fields


def test_a_credential_is_found_wherever_it_stands_and_stays_equal_to_itself():
    flow = asking(
        {"messages": [{"role": "user", "content": f"try {PASSWORD}!"}], "metadata": {"password": PASSWORD}},
        authorization=f"Bearer {PASSWORD}",
    )
    flow.request.path = "/v1/messages?key=planted%2FPasswort%2B%C3%A41&beta=true"
    flow.comment = f"the key is {PASSWORD}"
    flow.error = tflow.terr(f"refused: {PASSWORD}")
    flow.metadata["gateway"] = {"error_message": f"bad key {PASSWORD}", "rewrites": json.dumps([PASSWORD])}
    flow.request.trailers = tflow.tflow().request.headers.copy()
    flow.request.trailers["x-note"] = f"by {PASSWORD}".encode()
    flow.backup()
    flow.request.text = "{}"
    result = redacted(flow)
    everything = repr(result.get_state())
    placeholders = set(PLACEHOLDER.findall(everything))
    assert len(placeholders) == 1
    assert (
        len(PLACEHOLDER.findall(everything)) == 16
    )  # nine places, the backup's too; two of them in the body that went
    assert PASSWORD not in everything
    assert "Passwort" not in everything
    assert result.request.path.endswith("&beta=true")
    result.revert()
    assert placeholders < set(re.split('[" !]', result.request.get_text(strict=True) or ""))


def test_one_flow_teaches_what_another_repeats():
    knows, repeats = asking({}, x_api_key=PASSWORD), tflow.tflow()
    repeats.comment = f"it was {PASSWORD}"
    finder = Finder(KEY)
    redactor = Redactor(finder)
    for flow in (repeats, knows):
        redactor.learn(flow.get_state())
    placeholders = [PLACEHOLDER.findall(repr(redactor.redact(flow.get_state())))[0] for flow in (repeats, knows)]
    assert placeholders[0] == placeholders[1]
    assert len(finder.kinds) == 1


def test_of_two_credentials_that_begin_alike_the_longer_is_found_whole():
    flow = asking({"text": "planted-1 planted-12"}, x_api_key="planted-1", authorization="planted-12")
    text = json.loads(redacted(flow).request.text or "")["text"]
    assert len(set(PLACEHOLDER.findall(text))) == 2
    assert re.fullmatch(rf"{PLACEHOLDER.pattern} {PLACEHOLDER.pattern}", text)


@pytest.mark.parametrize("word", ["lm-studio", "ollama", "sk-test", "anthropic"])
def test_a_credential_that_may_be_a_plain_word_is_replaced_in_its_place_only(word: str):
    result = redacted(asking({"model": f"{word}/small"}, authorization=f"Bearer {word}"))
    assert word not in result.request.headers["authorization"]
    assert json.loads(result.request.text or "") == {"model": f"{word}/small"}


def test_values_of_secret_variables_are_known():
    environment = {
        "TOY_KEY": "correct-horse",
        "GITHUB_TOKEN": "battery-staple",
        "DB_PASSWORD": "planted-here",
        "SHORT_KEY": "short",
        "HOME": "/home/somebody",
        "KEYBOARD": "qwertz-layout",
    }
    known = environment_secrets(environment)
    assert sorted(known) == ["battery-staple", "correct-horse", "planted-here"]
    text = redact_text("correct-horse qwertz-layout", Finder(KEY, known=known))
    assert re.fullmatch(r"\[redacted:environment:[0-9a-f]{8}\] qwertz-layout", text)


def test_a_rule_file_adds_kinds():
    rules = read_rules(
        tomllib.loads("""
        [[rules]]
        name = "ticket"
        regex = 'ACME-\\d+'
        [[rules]]
        name = "host"
        regex = 'ssh (?P<secret>\\S+)'
        """)
    )
    text = redact_text("see ACME-17, ssh box.local now", Finder(KEY, rules))
    assert re.fullmatch(r"see \[redacted:ticket:\w{8}\], ssh \[redacted:host:\w{8}\] now", text)


def test_a_greedy_rule_ends_with_the_string_it_began_in():
    rules = read_rules({"rules": [{"name": "line", "regex": "note: .*"}]})
    flow = asking({"a": "note: mine", "b": [{"c": json.dumps({"d": "note: packed\nnext"})}]})
    body = json.loads(redacted(flow, Finder(KEY, rules)).request.text or "")
    assert PLACEHOLDER.fullmatch(body["a"])
    assert re.fullmatch(rf"{PLACEHOLDER.pattern}\nnext", json.loads(body["b"][0]["c"])["d"])


ESCAPED = 'p"l/a\\n\tted-1234'


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_is_searched_through_its_escapes_however_deep_it_is_packed(depth: int, ascii_only: bool):
    secret = f"{ESCAPED}ä😀"
    text = f"first {secret} last"
    for _ in range(depth):
        text = json.dumps({"output": text, "ü": "😀"}, ensure_ascii=ascii_only).replace("/", "\\/")
    flow = asking(f'{{ "n": 1.50, "text": {json.dumps(text)} }}', x_api_key=secret.encode().decode("latin-1"))
    flow.request.headers["x-api-key"] = secret
    body = redacted(flow).request.text or ""
    assert body.startswith('{ "n": 1.50, "text": "')
    text = json.loads(body)["text"]
    for _ in range(depth):
        text = json.loads(text)["output"]
    assert re.fullmatch(rf"first {PLACEHOLDER.pattern} last", text)


def test_escapes_are_understood_in_a_fragment_too():
    fragment = json.dumps({"output": f"x {ESCAPED}"})[:-1]
    body = redacted(asking({"arguments": fragment}, x_api_key=ESCAPED)).request.text or ""
    assert re.fullmatch(rf'{{"output": "x {PLACEHOLDER.pattern}"', json.loads(body)["arguments"])


def test_structure_that_only_looks_secret_is_kept():
    schema = {"properties": {"password": {"type": "string"}}, "required": ["password", "api_key"]}
    body = {"tools": [{"name": "log_in", "input_schema": schema}], "logprobs": [{"token": "Hello", "bytes": [72]}]}
    assert json.loads(redacted(asking(body)).request.text or "") == body


# ---- Streams ----


def events(*deltas: str) -> bytes:
    said = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": d}} for d in deltas]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in said).encode()


def text_of(stream: bytes) -> str:
    return "".join(json.loads(found)["delta"]["text"] for found in re.findall(rb"^data: (.*)$", stream, re.MULTILINE))


@pytest.mark.parametrize("secret", [TOKEN, PASSWORD, ESCAPED])
@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_a_secret_that_is_spread_over_deltas_is_found(secret: str, size: int):
    said = f"it is {secret} indeed"
    flow = answered(events(*(said[at : at + size] for at in range(0, len(said), size))))
    flow.request.headers["x-api-key"] = secret
    stream = answer_of(redacted(flow))
    assert re.fullmatch(rf"it is {PLACEHOLDER.pattern} indeed", text_of(stream))
    assert stream.count(b"event: ") == answer_of(flow).count(b"event: ")


def test_tool_arguments_are_found_across_deltas_and_escapes():
    arguments = json.dumps({"command": f"echo '{ESCAPED}'", "password": "short"})
    chunks = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": n, "function": {"arguments": part}}]}}]}
        for part in arguments
        for n in (0, 1)  # two calls whose parts alternate
    ]
    flow = answered("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode())
    flow.request.headers["x-api-key"] = ESCAPED
    found = [json.loads(line) for line in re.findall(rb"data: (.*)", answer_of(redacted(flow)))]
    for n in (0, 1):
        calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in found]
        joined = json.loads("".join(call["function"]["arguments"] for call in calls if call["index"] == n))
        assert re.fullmatch(rf"echo '{PLACEHOLDER.pattern}'", joined["command"])
        assert PLACEHOLDER.fullmatch(joined["password"])


def test_what_two_blocks_say_is_not_joined():
    deltas = [
        {"type": "content_block_delta", "index": n, "delta": {"text": part}} for n in (0, 1) for part in (" ", "b")
    ]
    deltas[1]["delta"], deltas[2]["delta"] = {"text": "sk-ant-0123"}, {"text": "45678901234567890"}
    flow = answered("".join(f"data: {json.dumps(delta)}\n\n" for delta in deltas).encode())
    assert answer_of(redacted(flow)) == answer_of(flow)


@pytest.mark.parametrize("edit", [list, cr_line_ends, mixed_line_ends, two_data_lines])
def test_a_stream_keeps_its_framing(edit):
    pieces = edit([b": hello\n\n", *(piece + b"\n\n" for piece in events("a", TOKEN, "b").split(b"\n\n")[:-1])])
    body = b"".join(pieces) + b"data: [DONE]"
    result = answer_of(redacted(answered(body)))
    placeholder = PLACEHOLDER.findall(result.decode())
    assert len(placeholder) == 1
    assert result == body.replace(TOKEN.encode(), placeholder[0].encode())


def test_comments_and_event_names_are_searched():
    result = answer_of(redacted(answered(f": {TOKEN}\nevent: {TOKEN}\nid: {TOKEN}\ndata: {TOKEN}\n\n".encode())))
    assert TOKEN not in result.decode()
    assert len(PLACEHOLDER.findall(result.decode())) == 4


# ---- Encodings and lengths ----


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, br"])
@pytest.mark.parametrize("cut_off", [False, True])
def test_encoded_bodies_are_searched_and_encoded_again(encoding: str, cut_off: bool):
    body = encodings.encode(events("a", TOKEN), encoding, cut_off=cut_off)
    flow = redacted(answered(body, encoding=encoding))
    assert flow.response
    decoder = encodings.decoder(flow.response.headers["content-encoding"])
    plain = b"".join(decoder.feed(answer_of(flow)))
    assert re.fullmatch(rf"a{PLACEHOLDER.pattern}", text_of(plain))
    assert flow.response.headers["content-length"] == str(len(answer_of(flow)))
    if cut_off:
        with pytest.raises(encodings.DecodeError):
            decoder.finish()


def test_damaged_data_gives_way_to_what_could_be_decoded():
    body = encodings.encode(events(TOKEN), "gzip", cut_off=True)
    flow = redacted(answered(body + b"\xff" * 20, encoding="gzip"))
    decoder = encodings.decoder("gzip")
    assert PLACEHOLDER.fullmatch(text_of(b"".join(decoder.feed(answer_of(flow)))))
    with pytest.raises(encodings.DecodeError):
        decoder.finish()


@pytest.mark.parametrize("body", [encodings.encode(b"{}", "gzip"), encodings.encode(b"{}", "gzip", cut_off=True)])
def test_what_stands_behind_encoded_data_goes(body: bytes):
    flow = redacted(answered(body + b"\xff " + TOKEN.encode(), "application/json", "gzip"))
    assert TOKEN.encode() not in answer_of(flow)
    assert b"".join(encodings.decoder("gzip").feed(answer_of(flow))) == b"{}"


@pytest.mark.parametrize("encoding", ["gzip", "compress"])
def test_a_body_that_nobody_can_read_is_replaced(encoding: str):
    flow = redacted(answered(f"\0\1 {TOKEN}".encode(), encoding=encoding))
    assert re.fullmatch(r"\[redacted:body:\w{8}\]", answer_of(flow).decode())


def test_bytes_of_no_charset_survive():
    body = b'\xff\xfe {"no": "json" \x80 ' + TOKEN.encode() + b"\xc3"
    result = answer_of(redacted(answered(body, "text/plain")))
    assert re.fullmatch(rb'\xff\xfe {"no": "json" \x80 \[redacted:.*\]\xc3', result)


def test_a_body_without_secrets_keeps_its_bytes():
    body = encodings.encode(events("nothing", " here"), "gzip")
    assert answer_of(redacted(answered(body, encoding="gzip"))) == body


def test_a_body_that_was_cut_stays_as_much_too_short():
    flow = answered(events(TOKEN))
    assert flow.response
    flow.response.headers["content-length"] = str(len(answer_of(flow)) + 100)
    result = redacted(flow)
    assert result.response
    assert int(result.response.headers["content-length"]) == len(answer_of(result)) + 100


def test_sizes_in_the_metadata_follow():
    flow = answered(events("x", TOKEN))
    total = len(answer_of(flow))
    flow.metadata["gateway"] = {"response_bytes": total, "id": "x"}
    flow.metadata["gateway_pace"] = [[1.5, 0], [20, total // 2], [30, total]]
    result = redacted(flow)
    new = len(answer_of(result))
    assert new != total
    assert result.metadata["gateway"] == {"response_bytes": new, "id": "x"}
    assert result.metadata["gateway_pace"][-1] == [30, new]
    assert 0 < result.metadata["gateway_pace"][1][1] < new


@pytest.mark.parametrize("rewritten", [False, True])
def test_size_and_hash_of_the_clients_own_request_follow(rewritten: bool):
    flow = asking({"text": TOKEN})
    plain = flow.request.raw_content or b""
    flow.request.encode("gzip")
    told = {"request_bytes": len(flow.request.raw_content or b""), "request_sha256": sha256(plain).hexdigest()}
    if rewritten:
        flow.backup()
        del flow.request.headers["content-encoding"]
        flow.request.text = "{}"
    flow.metadata["gateway"] = told
    result = redacted(flow)
    told = result.metadata["gateway"]
    result.revert()
    assert told == {
        "request_bytes": len(result.request.raw_content or b""),
        "request_sha256": sha256(result.request.content or b"").hexdigest(),
    }
    assert told["request_sha256"] != sha256(plain).hexdigest()


@pytest.mark.parametrize("pace", [7, "x", [], [1], [[1]], [["a", "b"]], [[1, 2, 3]]])
def test_metadata_of_another_making_does_no_harm(pace: object):
    flow = answered(events(TOKEN))
    flow.metadata = {"gateway": "x", "gateway_pace": pace, "other": {"a": [TOKEN, b"b", 1, None]}}
    assert PLACEHOLDER.fullmatch(redacted(flow).metadata["other"]["a"][0])


# ---- Other flows ----


def test_websocket_messages_are_searched_also_across_deltas():
    flow = tflow.twebsocketflow()
    assert flow.websocket
    parts = [{"type": "response.output_text.delta", "item_id": "m", "delta": part} for part in (TOKEN[:9], TOKEN[9:])]
    flow.websocket.messages[0].content = json.dumps({"type": "response.create", "api_key": PASSWORD}).encode()
    for message, part in zip(flow.websocket.messages[1:], parts, strict=True):
        message.content = json.dumps(part).encode()
    result = redacted(flow).websocket
    assert result
    created, first, second = (json.loads(message.content) for message in result.messages)
    assert PLACEHOLDER.fullmatch(created["api_key"])
    assert PLACEHOLDER.fullmatch(first["delta"])
    assert second["delta"] == ""


@pytest.mark.parametrize("make", [tflow.ttcpflow, tflow.tudpflow, tflow.tdnsflow, lambda: tflow.tflow(err=True)])
def test_flows_of_other_protocols_and_without_an_answer_pass(make):
    flow = make()
    flow.comment = TOKEN
    result = Flow.from_state(Redactor(Finder(KEY)).redact(flow.get_state()))
    assert PLACEHOLDER.fullmatch(result.comment)


def test_another_key_gives_other_placeholders():
    assert redact_text(TOKEN, Finder(b"one")) != redact_text(TOKEN, Finder(b"two"))
    assert redact_text(TOKEN, Finder(b"one")) == redact_text(TOKEN, Finder(b"one"))


def test_redacting_twice_changes_nothing_more():
    flow = asking({"u": f"https://h/?key={PASSWORD}", "password": PASSWORD}, cookie=f"a={PASSWORD}")
    once = redacted(flow)
    assert redacted(once, Finder(b"another")).get_state() == once.get_state()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([PASSWORD, ESCAPED]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(value=json_values, packed=st.booleans(), ascii_only=st.booleans())
def test_any_json_stays_json_of_the_same_shape_without_the_secret(value: object, packed: bool, ascii_only: bool):
    secrets = [PASSWORD, ESCAPED]
    body: object = {"x": json.dumps(value) if packed else value}
    text = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    result = json.loads(redacted(asking(text), Finder(KEY, known=secrets)).request.text or "")
    inner = json.loads(result["x"]) if packed else result["x"]
    assert _with_marks(inner) == _with_marks(json.loads(json.loads(text)["x"]) if packed else json.loads(text)["x"])


def _with_marks(value: object) -> object:
    """The value with a mark for each secret or placeholder."""
    match value:
        case str():
            return PLACEHOLDER.sub("*", value.replace(PASSWORD, "*").replace(ESCAPED, "*"))
        case list():
            return [_with_marks(item) for item in value]
        case dict():
            return {_with_marks(name): _with_marks(item) for name, item in value.items()}
    return value


@given(body=st.binary(max_size=200), content_type=st.sampled_from(["text/event-stream", "application/json", ""]))
def test_no_bytes_of_a_body_raise(body: bytes, content_type: str):
    redacted(answered(body, content_type))
    redacted(answered(body, content_type, "gzip"))


@pytest.mark.parametrize(
    ("body", "unread"),
    [
        pytest.param("ключ".encode("utf-16"), {"application/json in UTF-16": 1}, id="UTF-16 without a zero byte"),
        pytest.param(f'{{"a": "{TOKEN}"}}'.encode("utf-16"), {"application/json in UTF-16": 1}, id="UTF-16"),
        pytest.param(f'{{"a": "{TOKEN}"}}'.encode("utf-16-be"), {"application/json": 1}, id="without a mark"),
        pytest.param("ключ".encode("cp1251"), {"application/json": 1}, id="another character set"),
        pytest.param('{"a": "ключ"}'.encode(), {}, id="UTF-8"),
        pytest.param("ключ".encode()[:-1], {}, id="UTF-8, cut off"),
        pytest.param(b"", {}, id="nothing"),
    ],
)
def test_text_that_is_no_utf_8_is_counted_as_not_looked_into(body: bytes, unread: dict[str, int]):
    redactor = Redactor(Finder(KEY))
    redactor.redact(answered(body, "application/json").get_state())
    assert +redactor.unread == unread


@pytest.mark.parametrize("before", ["", "npm=", "//registry.example/:_authToken=", "x\\n", "/", '"'])
def test_an_npm_token_is_found(before: str):
    token = "npm_aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD3fG6"
    assert token not in (redacted(asking({"content": before + token})).request.text or token)
    assert token not in redact_text(before + token)
