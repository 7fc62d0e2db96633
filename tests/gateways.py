"""What the gateway's tests share: a configuration with a provider of every sort, and small helpers."""

import datetime
import gzip
import threading
import time
from collections.abc import Callable
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.client import PATHS, body_of
from tests.provider import Provider
from tests.provider.server import Received

KINDS = list(PATHS)
SAID = "Four tests pass, one fails: the last page is counted twice."
"""What the scenarios `text` and `openrouter-byok` answer."""

KEYS = {
    "TOY_KEY": "key-of-toy-6e1f0c",
    "CLAUDE_KEY": "key-of-claude-77ab19",
    "SECURE_KEY": "key-of-secure-d04c52",
}
TOKENS = {"GATEWAY_TOKEN": "client-token-93aa", "GATEWAY_ADMIN_TOKEN": "admin-token-51de"}
CLIENT, ADMIN = TOKENS.values()
LABELLED = ("labelled-json", "labelled-text", "labelled-stream", "labelled-nothing")
FREE = ("openrouter-byok", "gzip", "held", "cut-chunked", "http-400", "http-429", "http-500", *LABELLED)
"""Scenarios that `acme/NAME` makes a free model."""

CONFIG = """
default_provider = "toy"
custom_prefixes = ["acme/"]

[providers.toy]
api_url = "HTTP/toy/v1"
api_kinds = ["chat_completions", "responses", "messages"]
dialect = "openrouter"
api_key_env = "TOY_KEY"

[providers.claude]
api_url = "HTTP/claude/v1"
api_kinds = ["messages"]
dialect = "anthropic"
api_key_env = "CLAUDE_KEY"

[providers.keyless]
api_url = "HTTP/keyless/v1"
api_kinds = ["chat_completions", "responses"]
dialect = "openai"

[providers.secure]
api_url = "HTTPS/v1"
api_kinds = ["chat_completions", "responses", "messages"]
dialect = "openai"
api_key_env = "SECURE_KEY"

[providers.impostor]
api_url = "IMPOSTOR/v1"
api_kinds = ["chat_completions"]
dialect = "openai"
api_key_env = "SECURE_KEY"

[models]
"acme/chat-only" = { provider = "toy", model = "fake/text", api_kinds = ["chat_completions"] }
"claude/strict" = { provider = "claude", model = "fake/strict" }
"keyless/text" = { provider = "keyless", model = "fake/text" }
"secure/text" = { provider = "secure", model = "fake/text" }
"impostor/text" = { provider = "impostor", model = "fake/text" }

[auto_models."acme/auto"]
default = { model = "fake/text" }
modes.plan = { model = "fake/reasoning", effort = "high" }
"""


ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
}


def write_config(path: Path, http: Provider, https: Provider) -> None:
    """Write `CONFIG`, with the free models, for two running providers."""
    free = "".join(f'"acme/{name}" = {{ provider = "toy", model = "fake/{name}", free = true }}\n' for name in FREE)
    urls = {"IMPOSTOR": https.url, "HTTPS": f"https://{tls_address(https)}", "HTTP": http.url}
    text = CONFIG.replace("[models]\n", f"[models]\n{free}")
    for name, url in urls.items():
        text = text.replace(name, url)
    path.write_text(text)


def tls_address(https: Provider) -> str:
    """Where its certificate is good: by name, not by number."""
    return "localhost:" + https.url.split(":")[-1]


def write_certificate(path: Path) -> None:
    """Write a self-signed certificate for `localhost`, and its key, into one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own authority")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, bare = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, bare) + signed.public_bytes(pem))


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return as soon as the condition holds; there is nothing to wait on but another process's file."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.02)


def answer_of(received: Received) -> bytes:
    """The body of what the provider answered, without framing."""
    return body_of(bytes(received.sent))
