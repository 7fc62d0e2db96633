"""Flows with one made-up secret in one place each."""

import base64
import gzip
import json
import struct
from binascii import crc32
from collections.abc import Callable
from urllib.parse import quote

from mitmproxy.http import Headers, HTTPFlow
from mitmproxy.test import tflow

TOKEN = "Zq8mW2rT5yB9nK4vX7cL3dFh"
"""No vendor's shape: only its place tells."""
AWKWARD = "tur/nip+Gra:vy=42ä"
"""Has to be escaped in URLs and JSON, where `AWKWARD` may stand."""

Place = Callable[[HTTPFlow, str], None]


def _request(text: str, content_type: str = "application/json") -> Callable[[HTTPFlow], None]:
    def change(flow: HTTPFlow) -> None:
        flow.request.headers["content-type"] = content_type
        flow.request.text = text

    return change


def _header(name: str, form: str = "{}") -> Place:
    def plant(flow: HTTPFlow, secret: str) -> None:
        flow.request.headers[name] = form.format(secret)

    return plant


def _answer_header(name: str, form: str = "{}") -> Place:
    def plant(flow: HTTPFlow, secret: str) -> None:
        assert flow.response
        flow.response.headers[name] = form.format(secret)

    return plant


def _trailer(name: str) -> Place:
    def plant(flow: HTTPFlow, secret: str) -> None:
        flow.request.trailers = Headers()
        flow.request.trailers[name] = secret

    return plant


def _path(form: str) -> Place:
    def plant(flow: HTTPFlow, secret: str) -> None:
        flow.request.path = form.format(quote(secret, safe=""))

    return plant


def _member(*names: str) -> Place:
    def plant(flow: HTTPFlow, secret: str) -> None:
        value: object = secret
        for name in reversed(names):
            value = {name: value, "n": 1}
        flow.request.text = json.dumps(value)

    return plant


def _text(form: str) -> Place:
    """In a message of a conversation."""

    def plant(flow: HTTPFlow, secret: str) -> None:
        flow.request.text = json.dumps({"messages": [{"role": "user", "content": form.replace("{}", secret)}]})

    return plant


def _body(form: str, content_type: str) -> Place:
    def plant(flow: HTTPFlow, secret: str) -> None:
        flow.request.headers["content-type"] = content_type
        flow.request.text = form.replace("{}", secret)

    return plant


def _gzip_repeated(flow: HTTPFlow, secret: str) -> None:
    assert flow.response
    flow.response.headers.set_all("content-encoding", ["gzip", "gzip"])
    flow.response.raw_content = gzip.compress(gzip.compress(json.dumps({"api_key": secret}).encode()))


def _websocket(flow: HTTPFlow, secret: str) -> None:
    flow.websocket = tflow.twebsocketflow().websocket
    assert flow.websocket
    flow.websocket.messages[0].content = json.dumps({"type": "session", "client_secret": secret}).encode()


def _metadata(flow: HTTPFlow, secret: str) -> None:
    flow.metadata["note"] = {"headers": [f"authorization: Bearer {secret}"]}


def _comment(flow: HTTPFlow, secret: str) -> None:
    flow.comment = f"called with token={secret}"


def _error(flow: HTTPFlow, secret: str) -> None:
    flow.error = tflow.terr(f"refused: Bearer {secret}")


def _backup(flow: HTTPFlow, secret: str) -> None:
    flow.request.headers["x-api-key"] = secret
    flow.backup()
    del flow.request.headers["x-api-key"]


def _stream(flow: HTTPFlow, secret: str) -> None:
    assert flow.response
    said = f"password = '{secret}' it is"
    events = [{"choices": [{"index": 0, "delta": {"content": said[at : at + 3]}}]} for at in range(0, len(said), 3)]
    flow.response.headers["content-type"] = "text/event-stream"
    flow.response.text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)


def aws_message(payload: bytes) -> bytes:
    """A message of AWS's event stream with the event of a chunk."""
    named = (":message-type", "event"), (":event-type", "chunk")
    headers = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
        for name, value in named
    )
    prelude = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return message + struct.pack(">I", crc32(message))


def aws_chunk(event: object) -> bytes:
    return aws_message(json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode())


def _aws_events(flow: HTTPFlow, secret: str) -> None:
    assert flow.response
    flow.response.headers["content-type"] = "application/vnd.amazon.eventstream"
    said = f"api_key = '{secret}'"
    events = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said[at : at + 5]}}
        for at in range(0, len(said), 5)
    ]
    flow.response.content = b"".join(map(aws_chunk, events))


FORM = (
    '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    '--b\r\nContent-Disposition: form-data; name="api_key"\r\n\r\n{}\r\n--b--\r\n'
)

HEADERS = """
    authorization proxy-authorization x-api-key api-key x-goog-api-key private-token job-token x-auth-token
    ocp-apim-subscription-key x-vault-token x-amz-security-token x-github-token x-functions-key x-access-token
    x-auth-key x-client-secret x-csrf-token
"""
QUERIES = """
    key api_key token access_token sig signature client_secret password pwd auth X-Amz-Signature
"""
MEMBERS = """
    token githubToken pwd password client_secret apiKey accessToken refresh_token id_token authToken
    private_key secret secretKey db_password SecretAccessKey bot_token webhookSecret passphrase GITHUB_TOKEN
    OPENAI_API_KEY subscription-key signing_key auth
"""

PLACES: dict[str, Place] = {
    **{f"header {name}": _header(name) for name in HEADERS.split()},
    "header with scheme": _header("authorization", "Bearer {}"),
    "header cookie": _header("cookie", "theme=dark; sid={}"),
    "answer's header": _answer_header("x-api-key"),
    "answer's cookie": _answer_header("set-cookie", "sid={}; path=/"),
    "location": _answer_header("location", "https://h.example/back?access_token={}"),
    "trailer": _trailer("x-api-key"),
    **{f"query {name}": _path(f"/v1/models?a=1&{name}={{}}&b=2") for name in QUERIES.split()},
    **{f"member {name}": _member("config", name) for name in MEMBERS.split()},
    **{
        f"text {form}": _text(form)
        for form in (
            'SECRET_KEY="{}"',
            'SECRET_KEY="a$b(c{}"',
            'SECRET_KEY="abcdefgh$(){}"',
            "SECRET_KEY = '{}'",
            "export GITHUB_TOKEN={}",
            "token: {}",
            "x-vault-token: {}",
            "private-token: {}",
            "https://{}@github.example/a/b.git",
            "https://user:{}@github.example/a/b.git",
            "curl -H 'Authorization: Bearer {}' https://h.example",
            "curl -H 'authorization: token {}' https://h.example",
            "curl -u me:{} https://h.example",
            "mytool --token {} --verbose",
            "mytool --api-key={}",
            'config["githubToken"] = "{}"',
            "password := `{}`",
            '<add key="ApiKey" value="{}"/>',
            "<password>{}</password>",
            "aws_secret_access_key = {}",
            "//registry.example/:_authToken={}",
            "machine h.example login me password {}",
            "DB_PASS={}",
        )
    },
    "form": _body("grant_type=x&client_secret={}&scope=a", "application/x-www-form-urlencoded"),
    "form's first": _body("password={}&user=a", "application/x-www-form-urlencoded"),
    "multipart": _body(FORM, "multipart/form-data; boundary=b"),
    "gzip in gzip": _gzip_repeated,
    "websocket": _websocket,
    "metadata": _metadata,
    "comment": _comment,
    "error": _error,
    "backup": _backup,
    "stream": _stream,
    "aws events": _aws_events,
}

SHAPES = {
    # kind: beginning, put together with what is made up
    "anthropic_key": "sk-ant-",
    "openrouter_key": "sk-or-v1-",
    "openai_key": "sk-proj-",
    "github_token": "ghp_",
    "gitlab_token": "glpat-",
    "slack_token": "xoxb-",
    "google_token": "ya29.",
    "vercel_key": "vck_",
    "huggingface_token": "hf_",
    "groq_key": "gsk_",
    "xai_key": "xai-",
    "perplexity_key": "pplx-",
    "cerebras_key": "csk-",
    "fireworks_key": "fw_",
    "replicate_token": "r8_",
    "nvidia_key": "nvapi-",
    "stripe_key": "sk_live_",
    "npm_token": "npm_",
    "pypi_token": "pypi-A",
    "docker_token": "dckr_pat_",
    "digitalocean_token": "dop_v1_",
    "shopify_token": "shpat_",
    "sendgrid_key": "SG.Zq8mW2rT5yB9nK4vX7cL.",
    "vault_token": "hvs.",
    "linear_key": "lin_api_",
    "notion_token": "ntn_",
    "azure_storage_key": "AccountKey=Zq8mW2rT5yB9nK4vX7cL",
}
"""How the tokens of a vendor begin, by kind."""
