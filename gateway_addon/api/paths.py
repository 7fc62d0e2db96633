"""What the path of a request says: whether it is that of a model call, of which kind, and of which model; and whether
a request without a row may have asked a model for something all the same."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from gateway_addon.api import chat_completions, kind_of_path, messages, responses
from gateway_addon.api.base import ApiKind
from gateway_addon.terms import SideRequest


@dataclass(slots=True, frozen=True)
class CallPath:
    """The path of a model call."""

    kind: ApiKind
    """What goes there as a rule; the body has the last word (`kind_of_request`)."""
    model: str | None = None
    """Where the path names it: for a body that names none."""
    side_request: SideRequest | None = None
    needs_messages: bool = False
    """Bodies of many formats go there: those with `messages` are ours."""


COMPACTION = "/responses/compact"

DEPLOYMENT = re.compile(r"/deployments/(?P<model>[^/]+)/")
"""Azure OpenAI names a deployment, which stands for a model:
https://learn.microsoft.com/azure/ai-services/openai/reference"""

PLATFORMS = re.compile(
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
    r"/model/(?P<bedrock>[^/]+)/invoke(?:-with-response-stream)?"
    # https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.publishers.models/rawPredict
    r"|/models/(?P<vertex>[^/:]+):(?:rawPredict|streamRawPredict)"
)
"""Paths at which a cloud serves the models of many vendors, each in its vendor's format."""

NO_MODEL = "count-tokens"
"""What Vertex calls the counting of tokens for Claude in the place of a model."""

PRESETS = re.compile(r"/presets/[^/]+/[a-z/]+")
"""OpenRouter keeps what is sent there, under a name for later, and answers nothing."""


def call_path(path: str) -> CallPath | None:
    """What a path, with or without query, says of a POST; None: no model call goes there."""
    path = path.partition("?")[0].removesuffix("/")
    if path.endswith(COMPACTION):
        return CallPath(responses, side_request="compaction")
    if cloud := PLATFORMS.search(path):
        model = unquote(cloud["bedrock"] or cloud["vertex"])
        if cloud.end() < len(path) or model.startswith(NO_MODEL):
            return None
        # others than Claude speak Chat Completions, if any of the kinds
        return CallPath(messages if "claude" in model.lower() else chat_completions, model, needs_messages=True)
    kind = kind_of_path(path)
    if kind is None or PRESETS.search(path):
        return None
    deployment = DEPLOYMENT.search(path)
    return CallPath(kind, unquote(deployment["model"]) if deployment else None)


MODEL_HOSTS = re.compile(
    r"""
    (?: .+\. )? api\.openai\.com | chatgpt\.com | api\.anthropic\.com | api\.x\.ai
    | (?: generativelanguage | (?: .+ - )? aiplatform | aiplatform\. .+ \.rep ) \.googleapis\.com
    | bedrock-runtime (?: -fips )? \. .+ \.amazonaws\.com | bedrock-mantle\. .+ \.api\.aws
    | .+ \. (?: openai | services\.ai | cognitiveservices ) \.azure\.com | models\.github\.ai
    | api\. (?: .+\. )? githubcopilot\.com
    | openrouter\.ai | ai-gateway\.vercel\.sh | router\.huggingface\.co | opencode\.ai
    | api\. (?: mistral | cerebras | fireworks | perplexity | novita | z | cohere | moonshot | sambanova ) \.ai
    | api\. (?: deepseek | groq | deepinfra | cohere | minimax ) \.com
    | api\. (?: minimax\.io | minimaxi\.com | moonshot\.cn | together\.xyz | together\.ai )
    | open\.bigmodel\.cn | dashscope (?: -.+ )? \.aliyuncs\.com | integrate\.api\.nvidia\.com | inference\.baseten\.co
    """,
    re.VERBOSE,
)
"""Hosts, in lower case, that are known for serving models, whether or not a provider is configured for them."""

NO_INFERENCE = frozenset(
    # what there is, and what it would cost
    {"models", "count_tokens", "count-tokens", "input_tokens", "tokenize", "detokenize", "tokenizer", "props", "slots"}
    # what is kept
    | {"files", "uploads", "containers", "conversations", "vector_stores", "skills", "memories", "presets", "cancel"}
    # what a client tells of itself
    | {"telemetry", "event_logging", "events", "metrics", "traces", "logs", "log", "analytics", "analytics-events"}
    | {"statsig", "feedback", "claude_cli_feedback", "claude_code", "rgstr", "ces", "eval", "evals"}
    # who asks, and what may be asked
    | {"oauth", "token", "tokens", "auth", "login", "logout", "register", "account", "accounts", "organizations"}
    | {"users", "user", "me", "usage", "billing", "credits", "keys", "key", "settings", "wham", "sentinel"}
    | {"health", "ping", "hello", "status", "mcp", "webhooks", "sessions", "environments"}
)
"""Parts of paths at model hosts that tell that no model answers there."""


def asks_a_model(path: str) -> bool:
    """Whether a POST to a path at a model host may be answered by a model; True where nothing tells otherwise."""
    *parts, last = path.partition("?")[0].removesuffix("/").split("/")
    # below `models` there are the methods of each: `/models/gemini-2.5-pro:generateContent`
    words = {*parts, last} - ({"models"} if last != "models" else set())
    return NO_INFERENCE.isdisjoint(words) and not last.endswith((":countTokens", f"{NO_MODEL}:rawPredict"))
