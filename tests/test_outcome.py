"""Which outcome and which error a call has: by what its answer says, and else by how it ended."""

import json

import pytest

from gateway_addon.answer import AnswerFeed
from gateway_addon.api import KINDS
from gateway_addon.api.base import Answer, Problem, RequestFacts
from gateway_addon.outcome import CLEAN, End, outcome_of, outcome_unread, problem_of
from gateway_addon.terms import Outcome
from gateway_addon.wire.headers import Headers
from tests.chat_answers import ERROR, GOOD, SAYS, WHOLE, stream

SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
LEFT, CUT, STOPPED = End("client_aborted", None, "left"), End("upstream_cut", None, "cut"), End("interrupted")


def ended(
    body: bytes | None, end: End, *, status: int = 200, headers: dict[str, str] = JSON
) -> tuple[Outcome, Problem | None]:
    """Outcome and error of a call with this answer; None: none came."""
    if body is None:
        outcome = outcome_of(Answer(), end, http_status=None, streamed=None, stopped=None)
        return outcome, problem_of(Answer(), end, outcome, None)
    feed = AnswerFeed(KINDS["chat_completions"], RequestFacts(), status, Headers(headers))
    feed.feed(body)
    answer = feed.finish()
    outcome = outcome_of(answer, end, http_status=status, streamed=feed.streamed, stopped=feed.warning)
    return outcome, problem_of(answer, end, outcome, status)


@pytest.mark.parametrize(
    ("body", "status", "headers", "end", "outcome"),
    [
        pytest.param(GOOD, 200, SSE, CLEAN, "complete", id="a whole stream"),
        pytest.param(GOOD, 200, SSE, LEFT, "complete", id="hung up behind the last event"),
        pytest.param(GOOD, 200, SSE, CUT, "complete", id="cut behind the last event"),
        pytest.param(json.dumps(WHOLE).encode(), 200, JSON, CLEAN, "complete", id="a whole body"),
        pytest.param(stream(SAYS), 200, SSE, LEFT, "client_aborted", id="the client left"),
        pytest.param(stream(SAYS), 200, SSE, CUT, "upstream_cut", id="the upstream left"),
        pytest.param(stream(SAYS), 200, SSE, CLEAN, "upstream_cut", id="a clean close without the kind's end"),
        pytest.param(b": ping\n\n: ping\n\n", 200, SSE, CLEAN, "upstream_cut", id="keep-alives only"),
        pytest.param(stream(SAYS), 200, SSE, STOPPED, "interrupted", id="the proxy ended"),
        pytest.param(stream(SAYS, ERROR), 200, SSE, CLEAN, "stream_error", id="an error behind text"),
        pytest.param(stream(SAYS, ERROR), 200, SSE, CUT, "stream_error", id="an error, then cut"),
        pytest.param(json.dumps(ERROR).encode(), 200, JSON, CLEAN, "stream_error", id="an error in a 200"),
        pytest.param(json.dumps(ERROR).encode(), 402, JSON, CLEAN, "http_error", id="an error status"),
        pytest.param(b"<html>no</html>", 502, {}, LEFT, "http_error", id="an error status, left"),
        pytest.param(b"<html>hi</html>", 200, {}, CLEAN, "unreadable", id="a page"),
        pytest.param(b"", 200, JSON, CLEAN, "unreadable", id="an empty 200"),
        pytest.param(None, 200, {}, CUT, "upstream_cut", id="no connection"),
        pytest.param(None, 200, {}, STOPPED, "interrupted", id="never answered"),
        pytest.param(json.dumps(ERROR).encode(), 404, JSON, End("rejected"), "rejected", id="refused by the gateway"),
    ],
)
def test_outcome(body: bytes | None, status: int, headers: dict[str, str], end: End, outcome: str):
    assert ended(body, end, status=status, headers=headers)[0] == outcome


def test_a_stream_that_could_not_be_read_to_its_end_was_not_cut():
    unreadable = outcome_of(Answer(), CLEAN, http_status=200, streamed=True, stopped="response_undecodable")
    assert unreadable == "unreadable"


NOTHING = b'data: null\n\ndata: 5\n\ndata: "x"\n\ndata: []\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", [DONE, NOTHING + DONE, DONE + NOTHING, DONE + DONE], ids=repr)
@pytest.mark.parametrize(("end", "outcome"), [(CLEAN, "unreadable"), (LEFT, "client_aborted"), (CUT, "upstream_cut")])
def test_a_stream_that_only_says_it_is_done_is_no_answer(kind: str, body: bytes, end: End, outcome: str):
    feed = AnswerFeed(KINDS[kind], RequestFacts(), 200, Headers(SSE))
    feed.feed(body)
    answer = feed.finish()
    assert outcome_of(answer, end, http_status=200, streamed=feed.streamed, stopped=feed.warning) == outcome


@pytest.mark.parametrize(("end", "outcome"), [(CLEAN, "unreadable"), (CUT, "upstream_cut"), (STOPPED, "interrupted")])
def test_where_a_bug_of_ours_kept_it_from_being_read_the_transport_tells(end: End, outcome: str):
    assert outcome_unread(end) == outcome


@pytest.mark.parametrize(
    "body", [None, b"", b'{"id": "c1", "choi', b"Dear Ann,"], ids=["no head", "no byte", "half", "text"]
)
@pytest.mark.parametrize("end", [LEFT, CUT, STOPPED])
def test_how_an_answer_broke_is_what_the_error_says(body: bytes | None, end: End):
    assert ended(body, end) == (end.outcome, Problem(message=end.error_message))


def test_a_whole_answer_has_no_error():
    assert ended(GOOD, CUT, headers=SSE) == ("complete", None)


@pytest.mark.parametrize(
    ("error", "http_status", "expected"),
    [
        ({"message": "x", "type": "overloaded_error"}, 200, 529),
        ({"message": "x", "code": 402}, 200, 402),
        ({"message": "x", "type": "invalid_request_error"}, 404, 404),
        ({"message": "x", "code": 429}, 500, 429),
    ],
)
def test_error_status(error: dict[str, object], http_status: int, expected: int):
    _, problem = ended(json.dumps({"error": error}).encode(), CLEAN, status=http_status)
    assert problem
    assert problem.status == expected
