"""Design 2.3: what a requested model stands for, and what is refused."""

import pytest

from gateway_addon.api import KINDS
from gateway_addon.api.base import Refusal
from gateway_addon.gateway.models import choose, choose_provider
from tests.gateway.helpers import OPENROUTER, settings

CONFIG = settings("""
custom_prefixes = ["acme/", " Corp/"]

[providers.in-house]
api_url = "http://127.0.0.1:8000/v1"
api_kinds = ["chat_completions", "responses"]

[models."acme/free-coder"]
provider = "openrouter"
model = "mistralai/devstral-small"
free = true

[models."acme/in-house"]
provider = "in-house"
api_kinds = ["chat_completions"]

[models."short-name"]
model = "vendor/long-name"

[auto_models."acme/auto"]
default = { model = "anthropic/claude-sonnet-4.6" }
modes.plan = { model = "anthropic/claude-opus-4.6", effort = "high" }
modes.free = { model = "Acme/Free-Coder" }
""")
ELSEWHERE = ("https", "elsewhere.example", 443)


def chosen(model, kind="chat_completions", mode=None, target=OPENROUTER):
    choice = choose(model, KINDS[kind], mode, CONFIG, target)
    if isinstance(choice, Refusal):
        return choice.status, choice.code
    return choice.provider.id, choice.upstream_model, choice.effort, choice.free


class TestChoice:
    @pytest.mark.parametrize(
        ("model", "mode", "expected"),
        [
            ("vendor/unheard-of", None, ("openrouter", "vendor/unheard-of", None, False)),
            ("short-name", None, ("openrouter", "vendor/long-name", None, False)),
            ("acme/free-coder", None, ("openrouter", "mistralai/devstral-small", None, True)),
            ("acme/in-house", None, ("in-house", "acme/in-house", None, False)),
            ("acme/auto", None, ("openrouter", "anthropic/claude-sonnet-4.6", None, False)),
            ("acme/auto", "code", ("openrouter", "anthropic/claude-sonnet-4.6", None, False)),
            ("acme/auto", "plan", ("openrouter", "anthropic/claude-opus-4.6", "high", False)),
            ("acme/auto", "free", ("openrouter", "mistralai/devstral-small", None, True)),
            ("short-name", "plan", ("openrouter", "vendor/long-name", None, False)),
            (" Acme/FREE-coder\n", None, ("openrouter", "mistralai/devstral-small", None, True)),
            ("ACME/In-House", None, ("in-house", "acme/in-house", None, False)),
            ("Acme/Auto ", "free", ("openrouter", "mistralai/devstral-small", None, True)),
            ("Vendor/Unheard-Of", None, ("openrouter", "Vendor/Unheard-Of", None, False)),
            (" ACME/unheard-of", None, (404, "model_not_found")),
            ("corp/x", None, (404, "model_not_found")),
        ],
    )
    def test_of_provider_model_effort_and_free(self, model, mode, expected):
        assert chosen(model, mode=mode) == expected

    def test_a_named_provider_needs_no_default_one(self):
        assert chosen("acme/in-house", target=ELSEWHERE)[0] == "in-house"


class TestRefusals:
    @pytest.mark.parametrize("model", ["acme/", "acme/unknown", "ACME/unknown", "corp/x", "acme/in-house:free"])
    def test_custom_models_fail_closed(self, model):
        assert chosen(model) == (404, "model_not_found")

    @pytest.mark.parametrize("kind", ["responses", "messages"])
    def test_a_custom_model_for_other_kinds_only(self, kind):
        assert chosen("acme/in-house", kind) == (404, "kind_not_served")

    def test_a_provider_without_the_kind(self):
        assert chosen("claude-x", "chat_completions", target=("https", "api.anthropic.com", 443)) == (
            404,
            "kind_not_served",
        )

    def test_a_host_that_no_provider_is_configured_for(self):
        choice = choose("vendor/x", KINDS["messages"], None, CONFIG, ELSEWHERE)
        assert choice == Refusal(404, "no provider configured for elsewhere.example", "no_provider")

    def test_a_call_without_a_kind_is_only_refused_without_a_provider(self):
        assert choose_provider(None, CONFIG, OPENROUTER) is CONFIG.providers["openrouter"]
        assert isinstance(choose_provider(None, CONFIG, ELSEWHERE), Refusal)
