"""What changes on the way back, event by event and in whole bodies."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_addon.answer import AnswerFeed
from gateway_addon.api import KINDS
from gateway_addon.api.base import RequestFacts
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.wire import jsontext
from gateway_addon.wire.headers import Headers

CHAT, RESPONSES, MESSAGES = KINDS["chat_completions"], KINDS["responses"], KINDS["messages"]


UPSTREAM = "internal/secret-name-7b"


def free(kind=CHAT, upstream: str | None = None) -> AnswerChange:
    return AnswerChange(kind, public_model="acme/free", upstream_model=upstream)


HIDING = AnswerChange(CHAT, hide_usage=True)


def run(change: AnswerChange, content_type: str, *pieces: bytes, status: int = 200) -> bytes:
    """All that a client gets, after a check that no element would end a chunked body."""
    feed = AnswerFeed(change.kind, RequestFacts(), status, Headers({"content-type": content_type}), change)
    out = [element for piece in pieces for element in feed.feed(piece)] + feed.end()
    assert b"" not in out
    return b"".join(out)


def stream(change: AnswerChange, *pieces: bytes) -> bytes:
    return run(change, "text/event-stream", *pieces)


def body(change: AnswerChange, *pieces: bytes, status: int = 200) -> bytes:
    return run(change, "application/json", *pieces, status=status)


def piecewise(change: AnswerChange, *pieces: bytes) -> list[list[bytes]]:
    """What the client gets for each piece of a stream, and at its end."""
    feed = AnswerFeed(change.kind, RequestFacts(), 200, Headers({"content-type": "text/event-stream"}), change)
    return [feed.feed(piece) for piece in pieces] + [feed.end()]


FREE = [
    pytest.param(
        CHAT,
        b'{"id": "1", "model": "true/name", "usage": {"prompt_tokens": 1, "cost": 0.10, "is_byok": false}}',
        b'{"id": "1", "model": "acme/free", "usage": {"prompt_tokens": 1}}',
        id="chat",
    ),
    pytest.param(
        CHAT,
        b'{"model":"t","usage":{"cost":1,"cost_details":{"x":1},"market_cost":1,"totalPrice":1,"charged":1,"cost_in_usd_ticks":5}}',
        b'{"model":"acme/free","usage":{}}',
        id="chat: every name of a cost",
    ),
    pytest.param(
        CHAT,
        b'{"choices":[{"message":{"content":"x","provider_metadata":{"gateway":{"cost":"1"}}}},{"message":{}}]}',
        b'{"choices":[{"message":{"content":"x"}},{"message":{}}]}',
        id="chat: metadata in the message",
    ),
    pytest.param(
        CHAT,
        b'{"choices":[{"delta":{"providerMetadata":{"gateway":{"marketCost":"1"}},"content":""}}]}',
        b'{"choices":[{"delta":{"content":""}}]}',
        id="chat: metadata in a delta",
    ),
    pytest.param(
        CHAT, b'{"model":"t","x_groq":{"usage":{"cost":1}}}', b'{"model":"acme/free","x_groq":{"usage":{}}}', id="groq"
    ),
    pytest.param(
        RESPONSES,
        b'{"type":"response.completed","response":{"model":"t","usage":{"input_tokens":1,"cost":1},'
        b'"provider_metadata":{"gateway":{}}}}',
        b'{"type":"response.completed","response":{"model":"acme/free","usage":{"input_tokens":1}}}',
        id="responses: event",
    ),
    pytest.param(
        RESPONSES,
        b'{"object":"response","model":"t","usage":{"cost":1},"providerMetadata":{}}',
        b'{"object":"response","model":"acme/free","usage":{}}',
        id="responses: body",
    ),
    pytest.param(
        MESSAGES,
        b'{"type":"message_start","message":{"model":"t","usage":{"input_tokens":1,"cost":1}}}',
        b'{"type":"message_start","message":{"model":"acme/free","usage":{"input_tokens":1}}}',
        id="messages: message_start",
    ),
    pytest.param(
        MESSAGES,
        b'{"type":"message_delta","usage":{"output_tokens":1,"cost":1,"cost_details":{}},"provider_metadata":{}}',
        b'{"type":"message_delta","usage":{"output_tokens":1}}',
        id="messages: message_delta",
    ),
    pytest.param(
        MESSAGES, b'{"type":"message","model":"t"}', b'{"type":"message","model":"acme/free"}', id="messages: body"
    ),
    pytest.param(
        CHAT, b'{"model":"t","openrouter_metadata":{"is_byok":true}}', b'{"model":"acme/free"}', id="attempts"
    ),
    pytest.param(CHAT, b'{"model":"","usage":null}', b'{"model":"","usage":null}', id="no name, no usage"),
    pytest.param(
        CHAT,
        b'{"model":"t","choices":[{"index":0,"model":"t2","message":{"content":"\\"model\\":\\"t\\""}}]}',
        b'{"model":"acme/free","choices":[{"index":0,"model":"acme/free","message":{"content":"\\"model\\":\\"t\\""}}]}',
        id="chat: a choice's own name",
    ),
    pytest.param(
        CHAT,
        b'{"model":"t","cost":"0.1","estimated_cost":{"usd":1},"choices":[{"usage":{"n":1,"deep":{"cost":2}}}]}',
        b'{"model":"acme/free","choices":[{"usage":{"n":1,"deep":{}}}]}',
        id="chat: a cost at the top, and a nested one",
    ),
    pytest.param(
        RESPONSES,
        b'{"type":"response.completed","response":{"model":"t","cost":1,"usage":{"passes":[{"total_cost":1}]}}}',
        b'{"type":"response.completed","response":{"model":"acme/free","usage":{"passes":[{}]}}}',
        id="responses: a cost of the response, and a nested one",
    ),
    pytest.param(
        MESSAGES,
        b'{"type":"message","model":"t","usage":{"iterations":[{"model":"t","input_tokens":1},{"cost":2}]}}',
        b'{"type":"message","model":"acme/free","usage":{"iterations":[{"model":"acme/free","input_tokens":1},{}]}}',
        id="messages: the passes' own names",
    ),
    pytest.param(
        MESSAGES,
        b'{"type":"message_delta","delta":{"stop_details":{"recommended_model":"t2"}},"usage":{}}',
        b'{"type":"message_delta","delta":{"stop_details":{"recommended_model":"acme/free"}},"usage":{}}',
        id="messages: a model that is recommended",
    ),
    *(
        pytest.param(
            KINDS[kind], b'{"type": "ping", "cost": "0.00042"}', b'{"type": "ping"}', id=f"{kind}: a ping with a cost"
        )
        for kind in KINDS
    ),
    pytest.param(
        CHAT, b'{"model":5,"usage":[1],"choices":{"a":1}}', b'{"model":5,"usage":[1],"choices":{"a":1}}', id="shapes"
    ),
    pytest.param(
        CHAT,
        b'{"usage":{"n":1.50e-7,"cost":1}, "i": 9007199254740993}',
        b'{"usage":{"n":1.50e-7}, "i": 9007199254740993}',
        id="digits",
    ),
]


ERROR_BODIES = {
    "openrouter": '{"error":{"message":"No endpoints found for NAME.","code":404,"metadata":{"cost":0.1,"n":1.50}}}',
    "messages": '{"type":"error","error":{"type":"x","message":"no NAME","usage":{"total_cost":1}},"request_id":"r"}',
    "vllm": '{"object":"error","message":"NAME broke","meta":{"cost":1},"code":404}',
    "fastapi": '{"detail":[{"msg":"NAME","costs":[1]}]}',
    "vercel": '{"error":{"message":"x","provider_metadata":{"gateway":{"cost":"1","model":"NAME"}}}}',
    "raw": '{"error":{"message":"x","metadata":{"raw":"{\\"cost\\":1,\\"m\\":\\"NAME\\"}","is_byok":true}}}',
    "name": '{"error":{"message":"x","tried":{"NAME":1,"y":2}}}',
}
ERROR_EVENTS = {
    "chat_completions": '{"choices":[{"delta":{},"error":{"message":"NAME"}}],"error":{"message":"NAME","cost":1}}',
    "messages": '{"type":"error","error":{"type":"x","message":"no NAME","metadata":{"cost":1}}}',
    "responses": '{"type":"error","code":"x","message":"no NAME","meta":{"cost":1}}',
    "responses: failed": '{"type":"response.failed","response":{"error":{"message":"no NAME","meta":{"cost":1}}}}',
}
WRITTEN = (
    UPSTREAM,
    f"{UPSTREAM}:free",
    UPSTREAM.upper(),
    UPSTREAM.replace("/", "\\/"),
    UPSTREAM.replace("/", "\\\\/"),
    UPSTREAM.replace("/", "%2F"),
    "secret-name-7b",
    f"'{UPSTREAM}'",
    f"openrouter/{UPSTREAM}",
    f"{UPSTREAM}-0711",
    f"\\n{UPSTREAM}",
    f"\\\\n{UPSTREAM}",
)


class TestErrorsOfFreeModels:
    """Whatever goes wrong at the provider, its message says neither what served nor what it cost."""

    def check(self, received: bytes) -> None:
        for hidden in (b"secret", b"cost", b"byok"):
            assert hidden not in received.lower()

    @pytest.mark.parametrize("name", WRITTEN)
    @pytest.mark.parametrize("upstream", [UPSTREAM, f"{UPSTREAM}:free"])
    @pytest.mark.parametrize("text", ERROR_BODIES.values(), ids=list(ERROR_BODIES))
    @pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
    def test_a_body(self, kind, text, upstream, name):
        received = body(free(kind, upstream), text.replace("NAME", name).encode(), status=404)
        self.check(received)
        assert isinstance(jsontext.parse(received), dict)

    @pytest.mark.parametrize("name", WRITTEN)
    @pytest.mark.parametrize("kind", ERROR_EVENTS)
    def test_an_event(self, kind, name):
        change = free(KINDS[kind.partition(":")[0]], UPSTREAM)
        text = ERROR_EVENTS[kind].replace("NAME", name).encode()
        received = stream(change, b"data: " + text + b"\n\n")
        self.check(received)
        assert b"acme/free" in received

    def test_says_the_public_name_and_keeps_every_other_byte(self):
        text = ERROR_BODIES["openrouter"].replace("NAME", f"{UPSTREAM}:free").encode()
        assert body(free(CHAT, UPSTREAM), text, status=404) == (
            b'{"error":{"message":"No endpoints found for acme/free.","code":404,"metadata":{"n":1.50}}}'
        )

    def test_lines_of_an_event_beside_its_data(self):
        first = b": internal/secret-name-7b\nevent: x-secret-name-7b\r\nid: 5\ndata: {}\n\n: secret-name-7b\n\n"
        received = stream(free(CHAT, UPSTREAM), first)
        assert received == b": acme/free\nevent: x-acme/free\r\nid: 5\ndata: {}\n\n: acme/free\n\n"

    @pytest.mark.parametrize("text", ERROR_BODIES.values(), ids=list(ERROR_BODIES))
    def test_others_errors_stay_as_they_are(self, text):
        source = text.replace("NAME", UPSTREAM).encode()
        assert body(HIDING, source, status=404) == source
        assert not HIDING.concerns(404)

    @pytest.mark.parametrize("public", ["acme/secret-name-7b", UPSTREAM, f"x/{UPSTREAM}", "acme/y"])
    def test_a_public_name_that_is_like_it_is_said_once(self, public):
        change = AnswerChange(CHAT, public_model=public, upstream_model=UPSTREAM)
        text = jsontext.dumps({"error": {"message": f"{public} is {UPSTREAM}"}}).encode()
        assert jsontext.parse(body(change, text, status=400)) == {"error": {"message": f"{public} is {public}"}}

    @pytest.mark.parametrize("upstream", ["t", "o1", "free", "model", "code"])
    def test_a_name_that_may_be_any_word_is_left_in_texts(self, upstream):
        text = b'{"error":{"code":"o1","message":"t model free code"}}'
        assert body(free(CHAT, upstream), text, status=400) == text

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"internal/secret-name-7b", b"acme/free"),
            (b"m=secret-name-7b:free; path=/", b"m=acme/free; path=/"),
            (b"/x/internal%2Fsecret-name-7b", b"/x/acme/free"),
            (b"req-\xff1", b"req-\xff1"),
        ],
    )
    def test_headers(self, value, expected):
        assert free(CHAT, UPSTREAM).header(value) == expected
        assert HIDING.header(value) == value

    def test_a_public_name_that_no_header_can_carry_takes_the_header_away(self):
        change = AnswerChange(CHAT, public_model="acme/\u00e9", upstream_model=UPSTREAM)
        assert change.header(UPSTREAM.encode()) is None


class TestTextsOfFreeModels:
    def test_a_whole_answer_names_it_nowhere(self):
        text = jsontext.dumps(
            {"id": f"gen-{UPSTREAM}", "model": UPSTREAM, "choices": [{"message": {"content": f"I am {UPSTREAM}"}}]}
        )
        received = jsontext.parse(body(free(CHAT, UPSTREAM), text.encode()))
        assert received == {
            "id": "gen-acme/free",
            "model": "acme/free",
            "choices": [{"message": {"content": "I am acme/free"}}],
        }

    def test_what_is_no_error_may_use_its_words(self):
        text = b'{"choices":[{"message":{"content":"a secret-name-7b in x/secret-name-7b"}}]}'
        assert body(free(CHAT, UPSTREAM), text) == text


class TestFreeModels:
    @pytest.mark.parametrize(("kind", "before", "after"), FREE)
    def test_go_by_their_public_name_and_cost_nothing(self, kind, before, after):
        assert body(free(kind), before) == after
        assert stream(free(kind), b"data: " + before + b"\n\n") == b"data: " + after + b"\n\n"

    @pytest.mark.parametrize("text", [b"", b" "])
    def test_nothing_has_nothing_to_hide(self, text):
        assert body(free(), text) == text
        assert stream(free(), b"data: " + text + b"\n\n") == b"data: " + text + b"\n\n"

    NO_OBJECT = (b"<html>", b'{"model":', b"[1]", b'"model"', b"\xff", b"[" * 100_000, b'{"model":"t"} x')

    @pytest.mark.parametrize("text", NO_OBJECT)
    @pytest.mark.parametrize("kind", KINDS.values())
    def test_what_cannot_be_changed_is_withheld(self, kind, text):
        change = free(kind)
        assert body(change, text) == change.error_body()
        first = b"event: ping\nid: 1\n: hello\n\ndata: [DONE]\n\n"
        assert stream(change, first + b"data: " + text + b"\n\ndata: {}\n\n") == first + change.error_event()

    def test_an_edit_that_fails_is_withheld(self, monkeypatch):
        def fail(*_: object) -> bytes:
            raise ValueError

        monkeypatch.setattr(jsontext, "apply", fail)
        assert body(free(), b'{"usage":{"cost":1},"model":"t"}') == free().error_body()

    @pytest.mark.parametrize("text", NO_OBJECT)
    def test_what_only_hides_usage_lets_it_pass(self, text):
        change = AnswerChange(CHAT, hide_usage=True)
        assert body(change, text) == text
        assert stream(change, b"data: " + text + b"\n\n") == b"data: " + text + b"\n\n"

    @pytest.mark.parametrize("line", [b'{"model":"t"}', b"model: t", b'data: [DONE] "t"', b'data: {"model":"t'])
    def test_lines_that_are_no_event_are_withheld(self, line):
        assert stream(free(), b"data: {}\n\n" + line) == b"data: {}\n\n" + free().error_event()

    def test_an_event_beyond_all_bounds_is_withheld(self, monkeypatch):
        monkeypatch.setattr("gateway_addon.answer.sse.EventParser.__init__.__defaults__", (30,))
        assert stream(free(), b'data: {}\n\ndata: {"model": "a name of some length"}\n\n') == free().error_event()

    @pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
    def test_an_encoding_that_nobody_knows_is_withheld(self, label):
        headers = Headers({"content-type": label, "content-encoding": "rot13"})
        feed = AnswerFeed(CHAT, RequestFacts(), 200, headers, free())
        expected = free().error_event() if "stream" in label else free().error_body()
        assert b"".join([*feed.feed(b"zbqry"), *feed.end()]) == expected
        assert feed.is_withheld

    def test_a_body_is_held_back_until_it_is_whole(self):
        feed = AnswerFeed(CHAT, RequestFacts(), 200, Headers({"content-type": "application/json"}), free())
        assert feed.feed(b'{"model"') == []
        assert feed.feed(b':"t"}') == []
        assert feed.end() == [b'{"model":"acme/free"}']

    def test_a_body_beyond_all_bounds_is_withheld(self):
        headers = Headers({"content-type": "application/json"})
        feed = AnswerFeed(CHAT, RequestFacts(), 200, headers, free(), max_body=10)
        assert feed.feed(b'{"model"') == []
        assert feed.feed(b':"t"') == [free().error_body()]
        assert feed.feed(b"}") == []
        assert feed.end() == []

    @pytest.mark.parametrize(
        "frame",
        [
            b'data: {"choices":[],"cost":"0.00042"}\n\n',
            b'data: {"choices": [], "x-opencode-type": "inference-cost", "cost": "0.00001948"}\n\n',
            b'data: {"cost":1}\n\n',
        ],
    )
    def test_a_frame_that_tells_nothing_but_a_cost_is_withheld(self, frame):
        assert stream(free(), frame, b"data: [DONE]\n\n", frame) == b"data: [DONE]\n\n"


class TestEventFraming:
    """Only the data of an event changes; everything around it stays."""

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b'event: x\ndata: {"model":"t"}\n\n', b'event: x\ndata: {"model":"acme/free"}\n\n'),
            (b'data:{"model":"t"}\r\n\r\n', b'data:{"model":"acme/free"}\r\n\r\n'),
            (b'data: {"model":"t"}\r\r', b'data: {"model":"acme/free"}\r\r'),
            (b': {"model":"t"}\ndata: {"model":"t"}\n\n', b': {"model":"t"}\ndata: {"model":"acme/free"}\n\n'),
            (b'data: {"model":"t"}\nid: 7\n\n', b'data: {"model":"acme/free"}\nid: 7\n\n'),
            (b'\xef\xbb\xbfdata: {"model":"t"}\n\n', b'\xef\xbb\xbfdata: {"model":"acme/free"}\n\n'),
            (b'datax: 1\ndata: {"model":"t"}\n\n', b'datax: 1\ndata: {"model":"acme/free"}\n\n'),
            pytest.param(
                b'data: {\ndata:  "model": "t",\ndata:  "usage": {}\ndata: }\n\n',
                b'data: {\ndata:  "model": "acme/free",\ndata:  "usage": {}\ndata: }\n\n',
                id="several lines",
            ),
            (
                b'data: {"model":\r\nid: 1\r\ndata: "t"}\r\n\r\n',
                b'data: {"model":\r\ndata: "acme/free"}\r\nid: 1\r\n\r\n',
            ),
            (b'data\ndata: {"model":"t"}\n\n', b'data: \ndata: {"model":"acme/free"}\n\n'),
            (b'data: {"model":"t"}', b'data: {"model":"acme/free"}'),
            (b'data: {\ndata: "model":"t"}', b'data: {\ndata: "model":"acme/free"}\n'),
            (b"data: [DONE]\n\n", b"data: [DONE]\n\n"),
            (b": keep-alive\n\n", b": keep-alive\n\n"),
            pytest.param(
                'data: {"model":"t","x":"\u2028é"}\n\n'.encode(),
                'data: {"model":"acme/free","x":"\u2028é"}\n\n'.encode(),
                id="odd line ends inside",
            ),
        ],
    )
    def test_survives(self, before, after):
        assert stream(free(), before) == after

    def test_an_event_goes_on_with_its_blank_line(self):
        first, second, _ = piecewise(free(), b'data: {"model":"t"}\n', b"\ndata: ")
        assert first == []
        assert second == [b'data: {"model":"acme/free"}\n\n']


USAGE_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"


class TestHiddenUsage:
    def test_the_chunk_that_only_the_gateway_asked_for_is_withheld(self):
        assert piecewise(HIDING, USAGE_CHUNK, DONE) == [[], [DONE], []]

    @pytest.mark.parametrize(
        "chunk",
        [
            b'{"choices":[{"delta":{"content":"x"}}],"usage":null}',
            b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}',
            b'{"choices":[],"usage":{"prompt_tokens":1},"error":{"message":"late"}}',
            b'{"choices":[],"usage":null}',
            b'{"choices":[],"prompt_filter_results":[]}',
            b'{"usage":{"prompt_tokens":1}}',
            b'{"error":{"message":"no"}}',
        ],
    )
    def test_every_other_chunk_passes_byte_for_byte(self, chunk):
        data = b"data: " + chunk + b"\n\n"
        assert stream(HIDING, data) == data

    def test_a_free_model_can_have_both(self):
        change = AnswerChange(CHAT, public_model="acme/free", hide_usage=True)
        assert stream(change, b'data: {"model":"t","choices":[1]}\n\n' + USAGE_CHUNK + DONE) == (
            b'data: {"model":"acme/free","choices":[1]}\n\n' + DONE
        )

    def test_a_body_is_never_withheld(self):
        text = b'{"choices":[],"usage":{"prompt_tokens":1}}'
        assert body(HIDING, text) == text
        assert body(AnswerChange(CHAT, public_model="acme/free", hide_usage=True), text) == text


EVENTS = st.sampled_from(
    [
        b'data: {"model":"t","choices":[{"delta":{"content":"\xc3\xa9"}}]}\n\n',
        b'data: {"model":"t",\r\ndata: "usage":{"cost":1}}\r\n\r\n',
        b'event: e\rdata: {"model":"t"}\r\r',
        b": comment\n\n",
        b"data: nonsense\n\n",
        b"\n\r",
        USAGE_CHUNK,
        DONE,
        b"data: {",
    ]
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(st.lists(EVENTS, max_size=6), st.lists(st.integers(0, 500), max_size=8))
@example([b"data: {}\r\n\r\n", USAGE_CHUNK], [11])
@example([b"data: {}\r\n\r\n", b"data: nonsense\n\n"], [11])
def test_how_the_stream_is_cut_does_not_matter(events, places):
    data = b"".join(events)
    change = AnswerChange(CHAT, public_model="acme/free", hide_usage=True)
    assert stream(change, *cut(data, places)) == stream(change, data)


@given(st.binary(max_size=60) | st.lists(EVENTS, max_size=4).map(b"".join), st.lists(st.integers(0, 500), max_size=4))
def test_a_stream_without_anything_to_change_passes_byte_for_byte(data, places):
    untouched = AnswerChange(CHAT)
    assert stream(untouched, *cut(data, places)) == data


@pytest.mark.parametrize("kind", list(KINDS.values()), ids=list(KINDS))
@given(
    st.recursive(
        st.sampled_from([None, 0, "t"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["model", "usage", "cost", "choices", "delta", "message", "response", "provider_metadata"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_no_answer_makes_it_fail_and_nothing_is_left_to_change(kind, answer):
    once = body(free(kind), jsontext.dumps(answer).encode())
    assert body(free(kind), once) == once
