"""How agents are told where to send their calls."""

import json
import tomllib
from pathlib import Path

import pytest

from gateway_addon.cli import agents
from gateway_addon.cli.agents import AGENTS, ANY

KEYLESS = {"PATH": "/bin"}


def native(name: str, env: dict[str, str] | None = None) -> dict[str, str]:
    agent = AGENTS[name]
    return {one: agents.upstream(agent, one, "", env or KEYLESS, "/none") for one in agents.providers(agent)}


def settings(name: str, folder: Path, *, gateway: bool = False, env: dict[str, str] | None = None):
    agent = AGENTS[name]
    urls = native(name)
    at = {one: agents.at_gateway(one, 8080) if gateway else agents.at_listener(url, 8080) for one, url in urls.items()}
    return agents.settings(agent, at, KEYLESS | (env or {}), folder, gateway=gateway)


def test_claude_code_is_given_a_base_url_and_says_what_calls_are_for(tmp_path: Path):
    assert settings("claude", tmp_path) == (
        {"ANTHROPIC_BASE_URL": "http://127.0.0.1:8080", "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1"},
        [],
    )


def test_on_gateway_paths_a_placeholder_stands_for_a_key_whichever_there_is(tmp_path: Path):
    """The gateway's provider may be another vendor."""
    given, _ = settings("claude", tmp_path, gateway=True)
    assert given["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8080/api/gateway"
    assert given["ANTHROPIC_AUTH_TOKEN"] == "gateway-addon"
    given, _ = settings("claude", tmp_path, gateway=True, env={"ANTHROPIC_API_KEY": "key"})
    assert (given["ANTHROPIC_AUTH_TOKEN"], given["ANTHROPIC_API_KEY"]) == ("gateway-addon", "")


def test_codex_is_told_by_arguments_that_are_toml(tmp_path: Path):
    for gateway, url in ((False, "http://127.0.0.1:8080/v1"), (True, "http://127.0.0.1:8080/api/gateway/v1")):
        _, args = settings("codex", tmp_path, gateway=gateway)
        assert args[::2] == ["-c"] * (len(args) // 2)
        given = dict(argument.split("=", 1) for argument in args[1::2])
        values = {
            name: value if name == "model_provider" else tomllib.loads(f"it={value}")["it"]
            for name, value in given.items()
        }
        if gateway:
            assert values["model_provider"] == "gateway-addon"
            assert values["model_providers.gateway-addon"]["base_url"] == url
        else:
            assert values == {"openai_base_url": url}


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("Logged in using ChatGPT", "https://chatgpt.com/backend-api/codex"),
        ("Logged in using an API key - sk-***", "https://api.openai.com/v1"),
        ("Not logged in", "https://api.openai.com/v1"),
    ],
)
def test_where_codex_goes_depends_on_its_login(says: str, expected: str, tmp_path: Path):
    program = tmp_path / "codex"
    program.write_text(f'#!/bin/sh\n[ "$*" = "login status" ] && echo "{says}" >&2\n')
    program.chmod(0o755)
    assert agents.upstream(AGENTS["codex"], "openai", "", KEYLESS, str(program)) == expected


def test_a_base_url_that_is_there_already_stays_the_upstream():
    assert native("claude", {"ANTHROPIC_BASE_URL": "https://corp.example/llm/"}) == {
        "anthropic": "https://corp.example/llm"
    }
    assert native("aider", {"OPENAI_API_BASE": "https://corp.example/v1"}) == {
        "anthropic": "https://api.anthropic.com",
        "openai": "https://corp.example/v1",
        "openrouter": "https://openrouter.ai/api/v1",
    }


def test_it_does_so_however_it_is_written():
    assert native("claude", {"ANTHROPIC_BASE_URL": " HTTPS://corp.example "}) == {"anthropic": "HTTPS://corp.example"}
    with pytest.raises(ValueError, match=r"ANTHROPIC_BASE_URL: 'corp\.example' is no URL"):
        native("claude", {"ANTHROPIC_BASE_URL": "corp.example"})


@pytest.mark.parametrize("given", ["http://127.0.0.1:9000", "http://127.0.0.1:9000/v1", "http://127.0.0.1:9000/v1/"])
def test_an_upstream_may_be_given_with_v1_or_without(given: str):
    assert agents.upstream(AGENTS["claude"], "anthropic", given, {}, "") == "http://127.0.0.1:9000"
    assert agents.upstream(AGENTS["aider"], "openai", given, {}, "") == "http://127.0.0.1:9000/v1"


def test_another_path_of_an_upstream_stays():
    given = "https://api.example/coding/v4"
    assert agents.upstream(AGENTS["aider"], "openai", given, {}, "") == given
    assert agents.at_listener(given, 8080) == "http://127.0.0.1:8080/coding/v4"


@pytest.mark.parametrize(
    ("name", "variable"), [("opencode", "OPENCODE_CONFIG_CONTENT"), ("kilo", "KILO_CONFIG_CONTENT")]
)
def test_what_a_configuration_in_a_variable_held_before_is_kept(name: str, variable: str, tmp_path: Path):
    before = {"theme": "dark", "provider": {"anthropic": {"options": {"timeout": 1}}}}
    given, _ = settings(name, tmp_path, env={variable: json.dumps(before)})
    value = json.loads(given[variable])
    assert value["theme"] == "dark"
    assert value["provider"]["anthropic"]["options"] == {"timeout": 1, "baseURL": "http://127.0.0.1:8080/v1"}
    assert value["provider"]["openrouter"]["options"] == {"baseURL": "http://127.0.0.1:8080/api/v1"}


def test_pi_is_given_an_extension(tmp_path: Path):
    _, (flag, path) = settings("pi", tmp_path)
    assert (flag, Path(path).parent) == ("-e", tmp_path)
    assert 'pi.registerProvider("anthropic", { baseUrl: "http://127.0.0.1:8080" });' in Path(path).read_text()


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_has_an_address_or_takes_the_forward_proxy(name: str):
    agent = AGENTS[name]
    assert agent.takes_address or agent.has_many_providers
    assert agent.takes_address == bool(agents.providers(agent))


def test_of_another_program_the_variable_tells_the_provider():
    assert agents.with_variable("OPENAI_BASE_URL", None).env == {"OPENAI_BASE_URL": "$openai"}
    assert agents.with_variable("LLM_URL", "openai").env == {"LLM_URL": "$openai"}
    with pytest.raises(LookupError):
        agents.with_variable("LLM_URL", None)
    assert not ANY.takes_address


def test_certificates_that_were_trusted_before_still_are(tmp_path: Path):
    authority, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority.write_text("of the proxy")
    own.write_text("of the company")
    env = {"NODE_EXTRA_CA_CERTS": str(own), "REQUESTS_CA_BUNDLE": str(tmp_path / "missing.pem")}
    given = agents.through_proxy("http://127.0.0.1:8080", authority, env, tmp_path)
    (bundle,) = {Path(given[name]) for name in agents.CERTIFICATES}
    assert bundle.read_text().endswith("of the company\nof the proxy")
    assert given["HTTPS_PROXY"] == given["https_proxy"] == "http://127.0.0.1:8080"


def test_this_machine_is_asked_without_another_proxy():
    given = agents.past_proxy({"no_proxy": "corp.example localhost"})
    assert given == {"NO_PROXY": "corp.example,localhost,127.0.0.1", "no_proxy": "corp.example,localhost,127.0.0.1"}
