"""OpenAI, and what speaks like it: no gateway's bill, at most a figure of the provider's own."""

from gateway_addon.dialects import reported

NAME = "openai"
SENDS_USAGE = False
IS_STRICT = False
TAKES_WEBSOCKETS = True
BETA_HEADERS = ("anthropic-beta",)
PROVIDERS = {
    "openai": {
        "api_url": "https://api.openai.com/v1",
        "api_kinds": ["chat_completions", "responses"],
        "dialect": NAME,
        "api_key_env": "OPENAI_API_KEY",
    }
}
HIDDEN_MEMBERS = reported.HIDDEN_MEMBERS

is_spoken = reported.is_spoken
has_bill = reported.has_bill
read_bill = reported.read_bill


def key_headers(kind: str, key: str) -> dict[str, str]:
    """OpenAI takes a key as a bearer token, whatever the kind."""
    return {"authorization": f"Bearer {key}"}
