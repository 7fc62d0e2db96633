"""`gateway.toml`: what it may say, and the one line that answers a mistake."""

from pathlib import Path

import pytest
from pydantic import SecretStr

import gateway_addon
from gateway_addon.config import ConfigError, Settings, load

EXAMPLE = Path(gateway_addon.__file__).with_name("gateway.example.toml")


@pytest.fixture
def load_text(tmp_path):
    """Load a configuration given as text, with no variable set unless told."""

    def load_text(text: str, env: dict[str, str] | None = None) -> Settings:
        path = tmp_path / "gateway.toml"
        path.write_text(text, "utf-8")
        return load(path, env or {})

    return load_text


class TestBuiltIn:
    def test_no_file_leaves_the_built_in_providers(self):
        providers = load(None, {}).providers
        assert {id: (p.api_url, p.api_kinds, p.dialect, p.api_key_env) for id, p in providers.items()} == {
            "openrouter": (
                "https://openrouter.ai/api/v1",
                ("chat_completions", "responses", "messages"),
                "openrouter",
                "OPENROUTER_API_KEY",
            ),
            "vercel": (
                "https://ai-gateway.vercel.sh/v1",
                ("chat_completions", "responses", "messages"),
                "vercel",
                "AI_GATEWAY_API_KEY",
            ),
            "anthropic": ("https://api.anthropic.com/v1", ("messages",), "anthropic", "ANTHROPIC_API_KEY"),
            "openai": ("https://api.openai.com/v1", ("chat_completions", "responses"), "openai", "OPENAI_API_KEY"),
        }

    def test_an_empty_file_is_no_file(self, load_text):
        assert load_text("") == load(None, {})

    def test_a_file_overrides_a_built_in_provider_field_by_field(self, load_text):
        openrouter = load_text('[providers.openrouter]\napi_url = "http://127.0.0.1:9/api/v1/"').providers["openrouter"]
        assert openrouter.id == "openrouter"
        assert openrouter.api_url == "http://127.0.0.1:9/api/v1"
        assert openrouter.dialect == "openrouter"
        assert openrouter.api_key_env == "OPENROUTER_API_KEY"

    def test_rewrites_and_access_have_the_defaults_of_the_contract(self):
        settings = load(None, {})
        assert settings.rewrite.model_dump() == {
            "strip_models": True,
            "anthropic_cache_breakpoints": True,
            "normalize_tool_call_ids": True,
            "tracking_salt_env": "",
        }
        assert settings.access.admin_only_kinds == ()


class TestExample:
    def test_loads_without_any_variable(self):
        settings = load(EXAMPLE, {})
        assert settings.custom_prefixes == ("acme/",)
        assert settings.models["acme/free-coder"].free
        assert settings.models["acme/in-house"].api_kinds == ("chat_completions",)
        assert settings.auto_models["acme/auto"].modes["plan"].effort == "high"

    def test_what_it_writes_out_as_built_in_is_built_in(self):
        assert load(EXAMPLE, {}).providers["openrouter"] == load(None, {}).providers["openrouter"]

    def test_its_switches_are_the_defaults(self):
        example, built_in = load(EXAMPLE, {}), load(None, {})
        assert (example.access, example.rewrite) == (built_in.access, built_in.rewrite)


class TestSecrets:
    def test_values_are_read_once_and_never_shown(self, load_text):
        env = {"OPENAI_API_KEY": "provider-secret", "GATEWAY_TOKEN": "token-secret", "SALT": "salt-secret"}
        settings = load_text('[rewrite]\ntracking_salt_env = "SALT"', env)
        env.clear()
        assert settings.provider_key(settings.providers["openai"]) == SecretStr("provider-secret")
        shown = f"{settings!r} {settings} {settings.model_dump()} {settings.secret('SALT')} {settings.__dict__}"
        assert "-secret" not in shown

    @pytest.mark.parametrize("env", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": " \n"}], ids=repr)
    def test_an_unset_or_empty_variable_is_no_key(self, env):
        settings = load(None, env)
        assert settings.provider_key(settings.providers["openai"]) is None

    def test_a_variable_that_is_not_named_is_not_read(self):
        assert load(None, {"PATH": "/bin", "": "x"}).secret("PATH") is None
        assert load(None, {"PATH": "/bin", "": "x"}).secret("") is None

    def test_surrounding_white_space_is_no_part_of_a_key(self):
        assert load(None, {"GATEWAY_TOKEN": "open sesame\n"}).secret("GATEWAY_TOKEN") == SecretStr("open sesame")

    def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(self):
        with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
            load(None, {"OPENAI_API_KEY": "one\ntwo-secret"})
        assert "secret" not in str(caught.value)


PROVIDER = '[providers.own]\napi_url = "http://localhost/v1"\napi_kinds = ["messages"]\n'

MISTAKES = [
    ("= 1", "is not TOML: .*line 1"),
    ('default_provider = "\\q"', "is not TOML: .*line 1"),
    ("shout = true", "shout: unknown key"),
    ("[access]\nwho = 1", "access.who: unknown key"),
    (PROVIDER + 'api_key = "x"', "providers.own.api_key: unknown key"),
    (PROVIDER + 'id = "x"', "providers.own.id: unknown key"),
    ('[models."acme/x"]\nprice = 1', 'models."acme/x".price: unknown key'),
    ('[providers.own]\nbase_urll = "http://localhost"\napi_kinds = []', "providers.own.base_urll: unknown key"),
    ("[providers.own]\napi_kinds = []", "providers.own.api_url: is missing"),
    ('[providers.own]\napi_url = "http://localhost"', "providers.own.api_kinds: is missing"),
    ("[providers]\nown = 1", "providers.own: "),
    ("providers = 1", "providers: "),
    ('[providers."a b"]\napi_url = "http://localhost"\napi_kinds = []', 'providers."a b": is not a plain name'),
    ("custom_prefixes = 1", "custom_prefixes: "),
    ("custom_prefixes = [1]", "custom_prefixes.0: "),
    ('[rewrite]\nstrip_models = "yes"', "rewrite.strip_models: "),
    ("[rewrite]\nstrip_models = 1", "rewrite.strip_models: "),
    ("[models.x]\nmodel = 1", "models.x.model: "),
    ("default_provider = 1", "default_provider: must be the name of a provider"),
    ('default_provider = "nobody"', "default_provider: no provider is called 'nobody'"),
    ('default_provider = { messages = "nobody" }', "default_provider: no provider is called 'nobody'"),
    ('default_provider = { mesages = "openai" }', "default_provider.mesages: no such API kind: 'mesages'"),
    ('[models.x]\nprovider = "nobody"', "models.x.provider: no provider is called 'nobody'"),
    ('[models.x]\napi_kinds = ["chat"]', "models.x.api_kinds.0: no such API kind: 'chat'"),
    ('[access]\nadmin_only_kinds = ["chat"]', "access.admin_only_kinds.0: no such API kind: 'chat'"),
    ('[providers.openai]\ndialect = "french"', "providers.openai.dialect: no such dialect: 'french'"),
    ("[auto_models.x]", "auto_models.x.default: is missing"),
    (
        '[auto_models.x]\ndefault = { model = "y", effort = "huge" }',
        "auto_models.x.default.effort: ",
    ),
    (
        'custom_prefixes = ["acme/"]\n[auto_models.x]\ndefault = { model = "acme/y" }',
        "auto_models.x.default.model: no model is called 'acme/y'",
    ),
    (
        '[auto_models.x]\ndefault = { model = "y" }\nmodes.plan = { model = "x" }',
        "auto_models.x.modes.plan.model: no model is called 'x'",
    ),
    ('[auto_models.x]\ndefault = { model = "y" }\n[models.x]', r"auto_models.x: \[models\] has the same id"),
    ('[auto_models.X]\ndefault = { model = "y" }\n[models."x "]', r"auto_models.X: \[models\] has the same id"),
    ('[models."acme/x"]\n[models."Acme/X "]', 'models."Acme/X ": is the same id as "acme/x"'),
    (
        '[auto_models.x]\ndefault = { model = "y" }\n[auto_models.X]\ndefault = { model = "y" }',
        'auto_models.X: is the same id as "x"',
    ),
    (
        'custom_prefixes = ["acme/"]\n[auto_models.x]\ndefault = { model = "ACME/y" }',
        "auto_models.x.default.model: no model is called 'ACME/y'",
    ),
    (
        '[auto_models.x]\ndefault = { model = " X" }',
        "auto_models.x.default.model: no model is called ' X'",
    ),
    *(
        (f'[providers.openai]\napi_url = "{url}"', "providers.openai.api_url: ")
        for url in (
            "",
            "api.openai.com/v1",
            "ftp://api.openai.com",
            "https://",
            "https://host:port",
            "https://host:99999",
            "https://host:0",
            "https://host/v1?key=x",
            "https://host/v1#x",
            "https://ho st/v1",
            "https://[::1/v1",
            "https://who:what@host/v1",
        )
    ),
    (
        '[providers.openai]\napi_key_env = "two words"',
        "providers.openai.api_key_env: is not the name of an environment variable",
    ),
]


class TestMistakes:
    @pytest.mark.parametrize(("text", "message"), MISTAKES)
    def test_is_one_line_that_names_file_and_key(self, load_text, text, message):
        with pytest.raises(ConfigError, match=f"gateway.toml: {message}") as caught:
            load_text(text)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ('[providers.openai]\napi_key_env = "sk-this-is-not-a-real-key"', "providers.openai.api_key_env"),
            ('[providers.openai]\napi_key = "sk-this-is-not-a-real-key"', "providers.openai.api_key"),
            ('[providers.openai]\nheaders = ["Bearer not-a-real-key"]', "providers.openai.headers"),
            ('[access]\nclient_token_env = "0123456789abcdef0123456789abcdef"', "access.client_token_env"),
            ('[access]\nadmin_token_env = "not_real_sk_0123456789"\ntoken = "gsk_notrealnotreal"', "access.token"),
            ('[providers.x]\napi_url = "https://h/v1?key=AIzanotrealnotrealnotreal"', "providers.x.api_url"),
        ],
    )
    def test_a_value_that_looks_like_a_key_is_refused_but_not_repeated(self, load_text, text, place):
        with pytest.raises(ConfigError, match=f"gateway.toml: {place} looks like a key.*name that variable") as caught:
            load_text(text)
        assert "not-a-real" not in str(caught.value)
        assert "notreal" not in str(caught.value)

    @pytest.mark.parametrize("userinfo", ["someone:hidden", "hidden"])
    def test_credentials_in_a_url_are_not_repeated(self, load_text, userinfo):
        with pytest.raises(ConfigError, match="credentials") as caught:
            load_text(f'[providers.openai]\napi_url = "https://{userinfo}@host/v1"')
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize(
        "name",
        [
            "anthropic/claude-sonnet-4-5-20250929-thinking",
            "~vendor/model-name:free",
            "ask-sk-a",
            "accounts/vendor/models/longmodelname2",
        ],
    )
    def test_a_long_model_name_does_not_look_like_a_key(self, load_text, name):
        assert load_text(f'[models."acme/x"]\nmodel = "{name}"').models["acme/x"].model == name

    def test_an_unreadable_file(self, tmp_path):
        with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
            load(tmp_path / "none.toml", {})

    def test_a_file_that_is_not_text(self, tmp_path):
        path = tmp_path / "gateway.toml"
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match=r"gateway\.toml: is not TOML"):
            load(path, {})


class TestModelIds:
    def test_are_compared_trimmed_and_without_case(self, load_text):
        settings = load_text(
            """
            custom_prefixes = ["Acme/"]
            models."acme/free " = { model = "toy", free = true }
            auto_models.Auto = { default = { model = "ACME/Free" } }
            """
        )
        assert settings.model(" ACME/free").model == "toy"
        assert settings.auto_model("auto\n").default.model == "ACME/Free"
        assert settings.model("acme/other") is settings.auto_model("acme/free") is None
        assert [settings.is_custom(id) for id in (" aCme/x", "acme", "other/acme/")] == [True, False, False]

    def test_a_model_that_names_no_other_is_sent_as_the_file_writes_it(self, load_text):
        settings = load_text('models." Acme/Coder " = {}')
        assert settings.model("acme/coder").model == "Acme/Coder"


class TestProviderOfHost:
    @pytest.mark.parametrize(
        ("host", "port", "id"),
        [
            ("openrouter.ai", 443, "openrouter"),
            ("OpenRouter.AI", 443, "openrouter"),
            ("openrouter.ai", 80, None),
            ("127.0.0.1", 8000, "in-house"),
            ("127.0.0.1", 80, None),
            ("elsewhere.example", 443, None),
        ],
    )
    def test_host_and_port_decide(self, load_text, host, port, id):
        text = '[providers.in-house]\napi_url = "http://127.0.0.1:8000/v1"\napi_kinds = ["chat_completions"]'
        provider = load_text(text).provider_of_host(host, port)
        assert (provider and provider.id) == id

    @pytest.mark.parametrize(
        ("path", "id"), [("/a/v1/messages", "a"), ("/b/v1/messages?x", "b"), ("/c/v1", "a"), ("", "a"), ("/bb/v1", "a")]
    )
    def test_of_several_at_one_address_the_path_tells(self, load_text, path, id):
        text = "".join(
            f'[providers.{name}]\napi_url = "http://127.0.0.1:8000/{name}"\napi_kinds = ["messages"]\n' for name in "ab"
        )
        assert load_text(text).provider_of_host("127.0.0.1", 8000, path).id == id

    def test_a_provider_of_the_file_comes_before_a_built_in_one(self, load_text):
        settings = load_text('[providers.mine]\napi_url = "https://openrouter.ai/api/v1"\napi_kinds = ["messages"]')
        assert settings.provider_of_host("openrouter.ai", 443).id == "mine"


class TestDefaultProvider:
    TARGET = ("https", "api.openai.com", 443)

    @pytest.mark.parametrize(
        ("default", "kind", "id"),
        [
            ("", "messages", "openai"),
            ("", None, "openai"),
            ('default_provider = "vercel"', "messages", "vercel"),
            ('default_provider = "vercel"', None, "vercel"),
            ('default_provider = { messages = "anthropic" }', "messages", "anthropic"),
            ('default_provider = { messages = "anthropic" }', "responses", "openai"),
            ('default_provider = { messages = "anthropic" }', None, "openai"),
        ],
    )
    def test_by_kind_else_by_reverse_target(self, load_text, default, kind, id):
        assert load_text(default).default_provider_for(kind, self.TARGET).id == id

    def test_none_for_a_host_that_nobody_named(self, load_text):
        assert load_text("").default_provider_for("messages", ("https", "elsewhere.example", 443)) is None


def test_a_name_cannot_steer_the_terminal(load_text):
    with pytest.raises(ConfigError) as error:
        load_text('[providers.toy]\n"\\u001b[2J\\u202e" = 1\napi_url = "http://127.0.0.1:9"\napi_kinds = []')
    assert '"\\u001b[2J\\u202e": unknown key' in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('dialect = "openai"', True),
        ('dialect = "openrouter"', False),
        ("", False),
        ("websocket = true", True),
        ('dialect = "openai"\nwebsocket = false', False),
    ],
)
def test_which_providers_take_websockets(load_text, table: str, expected: bool):
    text = f'[providers.own]\napi_url = "http://own.example/v1"\napi_kinds = ["responses"]\n{table}'
    assert load_text(text).providers["own"].takes_websockets is expected
