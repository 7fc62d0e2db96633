"""Programs that take no base URL, behind a forward proxy: TLS from them to mitmdump, and from there to the provider.

Each trusts mitmproxy's certificate by the variable that `doctor` and the README name for its sort, and by no other.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway_addon.cli.doctor import CERTIFICATE, PROGRAMS
from tests.mitmdump import PATIENCE, Mitmdump, clean_environment, rows
from tests.provider import Provider

OPENAI = """
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any", max_retries=0)
messages = [{"role": "user", "content": "hi"}]
for chunk in client.chat.completions.create(model="fake/text", messages=messages, stream=True):
    print(chunk.choices[0].delta.content if chunk.choices else "", end="")
"""

ANTHROPIC = """
import anthropic, sys
client = anthropic.Anthropic(base_url=sys.argv[1], api_key="any", max_retries=0)
with client.messages.stream(model="fake/text", messages=[{"role": "user", "content": "hi"}], max_tokens=9) as stream:
    print(*stream.text_stream, sep="")
"""

REQUESTS = """
import requests, sys
body = {"model": "fake/text", "input": "hi"}
print(requests.post(sys.argv[1] + "/v1/responses", json=body).text)
"""

# fetch goes by the variables of a proxy in newer versions only, and then only if it is asked to
NODE = """
const target = new URL(process.argv[1]), proxy = new URL(process.env.HTTPS_PROXY);
const { hostname: host, port } = proxy;
const connect = require("http").request({ host, port, method: "CONNECT", path: target.host });
connect.on("connect", (_, socket) => {
  const secure = require("tls").connect({ socket, servername: target.hostname }, () => {
    const body = JSON.stringify({ model: "fake/text", messages: [{ role: "user", content: "hi" }] });
    secure.write(`POST /v1/messages HTTP/1.1\\r\\nhost: ${target.host}\\r\\nconnection: close\\r\\n`);
    secure.write(`content-length: ${body.length}\\r\\n\\r\\n${body}`);
  });
  secure.on("data", (data) => process.stdout.write(data));
});
connect.end();
"""

BODY = '{"model":"fake/text","messages":[]}'
CURL = ("curl", "--silent", "--fail", "--proto", "=https", "--data", BODY)


class Program(NamedTuple):
    sort: str
    """As `doctor` calls it."""
    command: tuple[str, ...]
    """The provider's URL follows."""
    path: str = ""


EXAMPLES = {
    "openai": Program("Python's SDKs and Aider", (sys.executable, "-c", OPENAI)),
    "anthropic": Program("Python's SDKs and Aider", (sys.executable, "-c", ANTHROPIC)),
    "requests": Program("Python's requests", (sys.executable, "-c", REQUESTS)),
    "node": Program("Node", ("node", "-e", NODE)),
    "curl": Program("other native programs", CURL, "/v1/messages"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_program_that_trusts_the_certificate_is_recorded(
    name: str, secure: Provider, certificate: Path, mitmdump: Callable[..., Mitmdump], confdir: Path, tmp_path: Path
):
    program = EXAMPLES[name]
    if shutil.which(program.command[0]) is None:
        pytest.skip(f"no {program.command[0]}")
    if name == "requests":
        pytest.importorskip("requests")
    proxy = mitmdump("", modes=["regular"], options={"ssl_verify_upstream_trusted_ca": certificate})
    proxy.wait_for("gateway-addon 0")
    url = secure.url.replace("127.0.0.1", "localhost")

    # curl asks the second before the file
    variables = {*(name for trusting in PROGRAMS.values() for name in trusting.variables), "SSL_CERT_DIR"}
    plain = {name: value for name, value in clean_environment().items() if name not in variables}

    def run(**trust: str) -> subprocess.CompletedProcess[str]:
        env = plain | {"HTTPS_PROXY": proxy.url, "NO_PROXY": ""} | trust
        command = [*program.command, url + program.path]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert run().returncode != 0
    assert secure.requests == []

    trusted = run(**{PROGRAMS[program.sort].variables[0]: str(confdir / CERTIFICATE)})
    assert trusted.returncode == 0, trusted.stderr
    assert "one fails" in trusted.stdout.replace('"', "")
    (received,) = secure.requests
    assert proxy.stop() == 0
    assert rows(tmp_path / "gateway.db", "SELECT outcome, upstream_host, upstream_path FROM requests") == [
        {"outcome": "complete", "upstream_host": "localhost", "upstream_path": received.path}
    ]
