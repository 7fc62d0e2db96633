"""Which paths are those of model calls, what they say of kind and model, and what else a model may have answered."""

import pytest

from gateway_addon.api.paths import MODEL_HOSTS, asks_a_model, call_path

BEDROCK = "anthropic.claude-sonnet-4-5-20250929-v1"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1"
VERTEX = "/v1/projects/toy/locations/us-east5/publishers"


@pytest.mark.parametrize(
    ("path", "kind", "model"),
    [
        ("/v1/chat/completions", "chat_completions", None),
        ("/v1/messages?beta=true", "messages", None),
        ("/openai/v1/responses", "responses", None),
        ("/openai/deployments/my%20model/chat/completions?api-version=1", "chat_completions", "my model"),
        ("/openai/deployments/toy/responses?api-version=1", "responses", "toy"),
        (f"/model/{BEDROCK}%3A0/invoke", "messages", f"{BEDROCK}:0"),
        (f"/model/{BEDROCK}:0/invoke-with-response-stream", "messages", f"{BEDROCK}:0"),
        (f"/gateway/bedrock/model/{ARN.replace('/', '%2F')}/invoke", "messages", ARN),
        ("/model/openai.gpt-oss-120b-1%3A0/invoke", "chat_completions", "openai.gpt-oss-120b-1:0"),
        (f"{VERTEX}/anthropic/models/claude-opus-4-6@default:rawPredict", "messages", "claude-opus-4-6@default"),
        (f"{VERTEX}/anthropic/models/claude-opus-4-6%40default:streamRawPredict?alt=sse", "messages",
         "claude-opus-4-6@default"),
        (f"{VERTEX}/mistralai/models/mistral-medium-3:rawPredict", "chat_completions", "mistral-medium-3"),
        ("/v1/responses/compact", "responses", None),
        ("/backend-api/codex/responses/compact", "responses", None),
    ],
)  # fmt: skip
def test_paths_of_calls(path: str, kind: str, model: str | None):
    found = call_path(path)
    assert found
    assert (found.kind.NAME, found.model) == (kind, model)


def test_what_the_path_says_of_a_compaction():
    compaction, call = call_path("/v1/responses/compact"), call_path("/v1/responses")
    assert compaction and call  # noqa: PT018
    assert (compaction.side_request, call.side_request) == ("compaction", None)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/presets/careful/chat/completions",
        "/api/v1/presets/careful/messages",
        f"/model/{BEDROCK}/converse",
        f"/model/{BEDROCK}/invoke/more",
        f"{VERTEX}/anthropic/models/count-tokens:rawPredict",
        f"{VERTEX}/google/models/gemini-3-pro:generateContent",
        "/v1/responses/resp_1",
        "/v1/messages/count_tokens",
        "/v1/completions",
        "/",
    ],
)
def test_paths_of_no_call(path: str):
    assert call_path(path) is None


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        ("/v1/images/generations", True),
        ("/v1/embeddings", True),
        ("/v1/completions", True),
        ("/v1/messages/batches", True),
        (f"/model/{BEDROCK}/converse-stream", True),
        ("/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse", True),
        ("/v1beta/models/gemini-3-pro:countTokens", False),
        (f"{VERTEX}/anthropic/models/count-tokens:rawPredict", False),
        (f"/model/{BEDROCK}/count-tokens", False),
        ("/v1/models", False),
        ("/v1/models?x=1", False),
        ("/v1/messages/count_tokens?beta=true", False),
        ("/v1/responses/input_tokens", False),
        ("/v1/responses/resp_1/cancel", False),
        ("/v1/files/", False),
        ("/api/event_logging/batch", False),
        ("/v1/oauth/token", False),
        ("/api/v1/presets/careful/chat/completions", False),
    ],
)
def test_what_a_model_may_have_answered(path: str, asks: bool):
    assert asks_a_model(path) is asks


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("api.x.ai", True),
        ("eu.api.openai.com", True),
        ("us-east5-aiplatform.googleapis.com", True),
        ("aiplatform.eu.rep.googleapis.com", True),
        ("bedrock-runtime.us-east-1.amazonaws.com", True),
        ("toy.openai.azure.com", True),
        ("api.individual.githubcopilot.com", True),
        ("api.openai.com.example", False),
        ("storage.googleapis.com", False),
        ("s3.amazonaws.com", False),
        ("evilapi.x.ai", False),
        ("127.0.0.1", False),
    ],
)
def test_model_hosts(host: str, known: bool):
    assert (MODEL_HOSTS.fullmatch(host) is not None) is known
