"""Every shape in which providers report errors → message, type, status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api.base import Json, Problem
from gateway_addon.api.errors import MAX_MESSAGE, bounded, error_text, merge, read_error, read_error_body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["error", "type", "code", "status", "message", "detail", "object", "metadata", "raw", "loc"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)

REPORTED = [
    pytest.param(
        {"error": {"message": "No such model.", "type": "invalid_request_error", "param": None, "code": "model_gone"}},
        Problem("No such model.", "invalid_request_error", 400),
        id="openai",
    ),
    pytest.param(
        {"type": "error", "error": {"type": "overloaded_error", "message": "Too busy."}, "request_id": "req_1"},
        Problem("Too busy.", "overloaded_error", 529),
        id="anthropic",
    ),
    pytest.param({"error": {"code": 402, "message": "No credit."}}, Problem("No credit.", None, 402), id="openrouter"),
    pytest.param({"error": {"code": "429", "message": "Slow."}}, Problem("Slow.", None, 429), id="numeric string"),
    pytest.param(
        {"error": {"code": 503, "type": "api_error", "message": "Down."}},
        Problem("Down.", "api_error", 503),
        id="a code outweighs the status of the type",
    ),
    pytest.param({"error": {"code": "too_long", "message": "Cut."}}, Problem("Cut.", "too_long", None), id="code word"),
    pytest.param({"error": {"code": 1, "message": "Odd."}}, Problem("Odd.", None, None), id="code is no HTTP status"),
    pytest.param({"error": {"code": True, "type": 4, "message": []}}, Problem(), id="wrong types"),
    pytest.param(
        {"type": "error", "code": "server_error", "message": "Broke.", "param": None, "sequence_number": 3},
        Problem("Broke.", "server_error", 500),
        id="event of Responses as documented",
    ),
    pytest.param(
        {"type": "error", "error": {"type": "server_error", "code": "server_error", "message": "Broke."}},
        Problem("Broke.", "server_error", 500),
        id="event of Responses as sent",
    ),
    pytest.param(
        {"id": "gen-1", "choices": [], "error": {"code": 502, "message": "Upstream failed."}},
        Problem("Upstream failed.", None, 502),
        id="chunk",
    ),
    pytest.param({"error": "Out of order."}, Problem("Out of order.", None, None), id="string"),
    pytest.param({"code": "bad_key", "error": "Who?"}, Problem("Who?", "bad_key", None), id="string with code beside"),
    pytest.param(
        {"object": "error", "message": "Too long.", "type": "BadRequestError", "code": 400},
        Problem("Too long.", "BadRequestError", 400),
        id="vLLM",
    ),
    pytest.param({"type": "error"}, Problem(), id="an error without a word"),
    pytest.param(
        {"error": {"code": 429, "message": "Used up.", "status": "RESOURCE_EXHAUSTED"}},
        Problem("Used up.", "RESOURCE_EXHAUSTED", 429),
        id="Google",
    ),
    pytest.param([{"error": {"code": 503, "message": "Down."}}], Problem("Down.", None, 503), id="in a list"),
    pytest.param([None, "x", {}, {"error": "Down."}], Problem("Down."), id="somewhere in a list"),
    pytest.param({"error": [{"code": 503, "message": "Down."}]}, Problem("Down.", None, 503), id="a list as error"),
    pytest.param({"error": ["Down."]}, Problem("Down."), id="a list of words"),
    pytest.param(
        {"error": "Too fast.", "error_type": "rate_limit_exceeded", "message": "Try later."},
        Problem("Too fast.", "rate_limit_exceeded", 429),
        id="Kilo: string with type beside",
    ),
    pytest.param(
        {"error": {"message": "Too fast.", "error_type": "rate_limit_exceeded"}},
        Problem("Too fast.", "rate_limit_exceeded", 429),
        id="type under another name",
    ),
    pytest.param(
        {"type": "error", "status": 400, "error": {"type": "odd", "message": "No."}},
        Problem("No.", "odd", 400),
        id="event of a WebSocket",
    ),
]


@pytest.mark.parametrize(("body", "expected"), REPORTED)
def test_an_error_is_read(body: Json, expected: Problem):
    assert read_error(body) == expected
    assert read_error_body(body) == expected


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": "rate_limit_exceeded"}, 429),
        ({"code": "server_error"}, 500),
        ({"code": "invalid_prompt"}, 400),
        ({"code": "invalid_base64_image"}, 400),
        ({"code": "context_length_exceeded"}, 400),
        ({"code": "vector_store_timeout"}, 504),
        ({"code": "image_file_not_found"}, 404),
        ({"code": "image_too_large"}, 413),
        ({"code": "bio_policy"}, None),
        ({"code": "empty_image_file"}, None),
        ({"type": "tokens", "code": "rate_limit_exceeded"}, 429),
        ({"type": "insufficient_quota", "code": "insufficient_quota"}, 429),
        ({"type": "invalid_request_error", "code": "model_not_found"}, 404),
        ({"type": "invalid_request_error", "code": "invalid_api_key"}, 401),
        ({"type": "authentication_error", "code": "invalid_token"}, 401),
        ({"type": "invalid_request_error", "code": "image_too_small"}, 400),
        ({"type": "service_unavailable"}, 503),
        ({"type": "overloaded_error"}, 529),
        ({"status": "INVALID_ARGUMENT"}, 400),
        ({"status": "UNAVAILABLE"}, 503),
        ({"status": 402, "code": "rate_limit_exceeded"}, 402),
        ({"code": 200, "type": "api_error"}, 500),
        ({"code": "odd"}, None),
    ],
)
def test_the_name_of_an_error_tells_its_http_status(error: Json, status: int | None):
    problem = read_error({"error": error})
    assert problem is not None
    assert problem.status == status


@pytest.mark.parametrize(
    "body",
    [
        [{"id": "c1"}, {"error": None}],
        {"error": []},
        {"error": [None]},
        pytest.param({"id": "c1", "error": None}, id="null"),
        pytest.param({"id": "c1", "error": {}}, id="empty"),
        {"error": False},
        {"error": ""},
        {"detail": "nothing says that this is an error"},
        {"message": "nor here"},
        {"type": "message", "message": "nor here"},
        {},
        [],
        None,
        "error",
    ],
)
def test_a_good_answer_is_no_error(body: object):
    assert read_error(body) is None


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        pytest.param({"error": {"message": "Stop."}}, "error", Problem("Stop."), id="Groq"),
        ({"message": "Stop.", "type": "server_error"}, "error", Problem("Stop.", "server_error", 500)),
        ({"code": 500}, "error", Problem(status=500)),
        ({"message": "Stop."}, "", None),
        pytest.param({"type": "message_delta", "usage": {}}, "error", None, id="an event that has a type of its own"),
    ],
)
def test_the_name_of_an_event_tells_an_error_where_its_data_does_not(data: Json, name: str, expected: Problem | None):
    assert read_error(data, name) == expected


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"provider_name": "Acme"}, "Failed. (Acme)"),
        ({"provider_name": "Acme", "raw": "queue is full"}, "Failed. (Acme: queue is full)"),
        ({"raw": '{"error": {"message": "queue is full", "code": 9}}'}, "Failed. (queue is full)"),
        ({"raw": '{"error": "queue is full"}'}, "Failed. (queue is full)"),
        ({"raw": {"message": "queue is full"}}, "Failed. (queue is full)"),
        ({"raw": '{"queue": "full"}'}, 'Failed. ({"queue": "full"})'),
        ({"raw": "", "provider_name": None}, "Failed."),
        ({"raw": 7}, "Failed."),
        ("Acme", "Failed."),
    ],
)
def test_openrouter_passes_on_what_the_upstream_said(metadata: object, message: str):
    assert read_error({"error": {"message": "Failed.", "metadata": metadata}}) == Problem(message)


def test_openrouter_names_the_type_in_the_metadata():
    error = {"code": 429, "message": "Slow.", "metadata": {"error_type": "rate_limit_exceeded"}}
    assert read_error({"error": error}) == Problem("Slow.", "rate_limit_exceeded", 429)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"detail": "Not found"}, Problem("Not found"), id="FastAPI"),
        pytest.param(
            {"detail": [{"loc": ["body", "messages", 0], "msg": "is required"}, {"msg": "and more"}, 3]},
            Problem("body.messages.0: is required; and more"),
            id="FastAPI: what is wrong where",
        ),
        ({"detail": {"error": "Not here"}}, Problem("Not here")),
        ({"detail": {"message": "Not here", "code": 404}}, Problem("Not here", None, 404)),
        ({"message": "Signature expired"}, Problem("Signature expired")),
        ({"error": None, "message": "Gone", "code": 410}, Problem("Gone", None, 410)),
        ([{"message": "Gone", "code": 410}], Problem("Gone", None, 410)),
        ([{"detail": "Not found"}], Problem("Not found")),
        ([{}, 3], None),
        ({}, None),
        ({"detail": []}, None),
        ({"ok": False}, None),
        (None, None),
    ],
)
def test_an_error_status_lets_looser_shapes_count(body: object, expected: Problem | None):
    assert read_error_body(body) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", None, id="nothing"),
        pytest.param(b" \r\n ", None, id="blank"),
        pytest.param(b"slow down, please\n", "slow down, please", id="text"),
        pytest.param(
            b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title><style>h1 > b { x: y }</style>\n"
            b"<script>if (1 < 2) alert('no')</script></head>\n"
            b"<body><h1>502 Bad Gateway</h1><p>Tea &amp;\n biscuits</p></body></html>",
            "502 Bad Gateway Tea & biscuits",
            id="HTML",
        ),
        (b"<html><script>never closed", None),
        (b"bad \xff byte", "bad \ufffd byte"),
        (b"key=12345 is unknown", "key=<secret> is unknown"),
    ],
)
def test_a_body_that_is_no_json_keeps_its_readable_text(raw: bytes, message: str | None):
    assert error_text(raw) == Problem(message)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Wrong key sk-test-0123456789abcdef.", "Wrong key <secret>."),
        ("Wrong key sk-abc****************wxyz, sorry", "Wrong key <secret>, sorry"),
        ('sent "Authorization: Bearer abc.def-123"', 'sent "Authorization: Bearer <secret>"'),
        ("sent 'bearer abcdef'", "sent 'bearer <secret>'"),
        ("GET /v1/models?key=abc123&alt=sse failed", "GET /v1/models?key=<secret>&alt=sse failed"),
        ('bad api_key="hunter2"', 'bad api_key="<secret>"'),
        ('{"x-api-key": "hunter2"}', '{"x-api-key": "<secret>"}'),
        ("Incorrect API key provided: hunter2, see the docs", "Incorrect API key provided: <secret>, see the docs"),
        ("xai-0123456789 and gsk_0123456789", "<secret> and <secret>"),
        ("The token count is too high: 9000", "The token count is too high: 9000"),
        ("ask-me-anything, a risk-free task-runner", "ask-me-anything, a risk-free task-runner"),
    ],
)
def test_credentials_that_a_provider_echoes_are_scrubbed(text: str, scrubbed: str):
    assert bounded(text) == scrubbed
    assert bounded(scrubbed) == scrubbed


def test_a_message_is_cut_only_after_its_secrets_are_gone():
    secret = "sk-" + "s" * 100
    message = bounded("a" * (MAX_MESSAGE - 10) + " " + secret)
    assert len(message) <= MAX_MESSAGE
    assert "sss" not in message
    assert len(bounded("b" * 100_000)) == MAX_MESSAGE


def test_a_message_is_fit_for_a_database():
    assert bounded("nul \0 and \ud800") == "nul  and \ufffd"


@pytest.mark.parametrize(
    ("first", "later", "merged"),
    [
        (None, None, None),
        (Problem("a"), None, Problem("a")),
        (None, Problem("b"), Problem("b")),
        pytest.param(Problem("a", "t"), Problem("b", "u", 500), Problem("a", "t", 500), id="the first words hold"),
        (Problem(), Problem("b", "u", 500), Problem("b", "u", 500)),
    ],
)
def test_the_first_error_is_completed_by_later_ones(
    first: Problem | None, later: Problem | None, merged: Problem | None
):
    assert merge(first, later) == merged


@given(JSON, st.sampled_from(["", "error", "message"]))
def test_no_json_raises(body: object, name: str):
    for problem in (read_error(body, name), read_error_body(body)):
        assert problem is None or len(problem.message or "") <= MAX_MESSAGE


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise(raw: bytes):
    assert len(error_text(raw).message or "") <= MAX_MESSAGE
