"""Which kind a path, a request body and an answer belong to."""

import pytest

from gateway_addon.api import KINDS, kind_of_answer, kind_of_path, kind_of_request
from gateway_addon.api.base import Json

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat_completions"),
        ("/api/gateway/v1/chat/completions", "chat_completions"),
        ("/openai/deployments/my-model/chat/completions?api-version=1", "chat_completions"),
        ("/v1/responses", "responses"),
        ("/backend-api/codex/responses/", "responses"),
        ("/v1/messages?beta=true", "messages"),
        ("/v1/responses/resp_1", None),
        ("/v1/messages/count_tokens", None),
        ("/v1/messages/batches", None),
        ("/v1/completions", None),
        ("/find?next=/v1/messages", None),
        ("/", None),
    ],
)
def test_the_end_of_the_path_names_the_kind(path: str, name: str | None):
    kind = kind_of_path(path)
    assert (kind and kind.NAME) == name


@pytest.mark.parametrize(
    ("by_path", "body", "name"),
    [
        ("chat_completions", {"messages": HELLO}, "chat_completions"),
        ("messages", {"messages": HELLO}, "messages"),
        ("chat_completions", {"input": "hello"}, "responses"),
        ("messages", {"input": "hello"}, "responses"),
        ("responses", {"messages": HELLO}, "chat_completions"),
        ("chat_completions", {"messages": HELLO, "system": "Be brief."}, "messages"),
        ("chat_completions", {"messages": HELLO, "tools": [{"name": "ls", "input_schema": {}}]}, "messages"),
        ("responses", {}, "responses"),
        ("responses", None, "responses"),
    ],
)
def test_a_body_of_another_kind_only_outweighs_the_path(by_path: str, body: Json | None, name: str):
    assert kind_of_request(KINDS[by_path], body) is KINDS[name]


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"object": "chat.completion", "choices": []}, "chat_completions"),
        ({"object": "chat.completion.chunk", "choices": []}, "chat_completions"),
        ({"object": "response", "output": []}, "responses"),
        ({"type": "response.created", "response": {}}, "responses"),
        ({"type": "message", "content": []}, "messages"),
        ({"type": "message_start", "message": {}}, "messages"),
    ],
)
@pytest.mark.parametrize("asked", KINDS)
def test_an_answer_that_names_its_kind_is_read_as_that(asked: str, answer: Json, name: str):
    assert kind_of_answer(KINDS[asked], answer) is KINDS[name]


@pytest.mark.parametrize("answer", [{}, {"error": {"message": "no"}}, {"object": 1, "type": [], "choices": 2}])
@pytest.mark.parametrize("asked", KINDS)
def test_an_answer_that_names_no_kind_is_of_the_kind_asked_for(asked: str, answer: Json):
    assert kind_of_answer(KINDS[asked], answer) is KINDS[asked]
