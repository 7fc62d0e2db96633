"""What would not work is said before it does not."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from mitmproxy import certs

from gateway_addon.cli import doctor
from gateway_addon.content import Content
from gateway_addon.cost import PriceTable
from tests.commands import run, write
from tests.mitmdump import free_port
from tests.store.calls import make_record
from tests.store.test_database import make_newer

FOREIGN = ("_API_KEY", "_TOKEN", "_PROXY", "_BASE_URL", "_API_BASE", "_CERTS", "_CERT_FILE", "_CERTIFICATE", "_BUNDLE")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable that is looked at, an empty home, and nothing else here."""
    for name in [name for name in os.environ if name.upper().endswith(FOREIGN)]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GATEWAY_DB", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "SYSTEM_CERTIFICATES", ())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mitmproxy's folder, with its certificate."""
    folder = tmp_path_factory.mktemp("authority")
    certs.CertStore.from_store(folder, "mitmproxy", 2048)
    return folder


def found(check: str, *arguments: object, port: int | None = None) -> list[tuple[str, str]]:
    """What one check alone says: levels, and lines as they are printed."""
    with patch.dict(doctor.CHECKS, {check: doctor.CHECKS[check]}, clear=True):
        result = run("doctor", *arguments, "--port", port or free_port(), "--json")
    lines = json.loads(result.stdout)
    assert result.exit_code == any(line["level"] == "bad" for line in lines)
    assert {line["check"] for line in lines} <= {check}
    return [(line["level"], ": ".join(filter(None, (line["what"], line["mend"])))) for line in lines]


def test_a_line_each_in_80_columns(port: int, monkeypatch: pytest.MonkeyPatch, authority: Path, tmp_path: Path):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mitmproxy").symlink_to(authority)
    result = run("doctor", "--port", port, "--base-url", f"http://127.0.0.1:{port}/v1", "--confdir", "mitmproxy")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) > 12
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"good", "note"}
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_what_is_bad_is_the_exit_code(taken: int):
    result = run("doctor", "--port", taken)
    assert result.exit_code == 1
    assert f"bad   port {taken} is taken: take another, or end what listens there\n" in result.stdout


def test_nothing_is_made(port: int, tmp_path: Path):
    run("doctor", "--port", port)
    assert list(tmp_path.iterdir()) == []


class TestInstalled:
    def test_versions(self):
        ((level, line), *_) = found("versions")
        assert level == "good"
        assert "gateway-addon 0" in line
        assert "mitmproxy 1" in line

    def test_a_mitmdump_that_may_not_have_the_addon(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        other = tmp_path / "bin" / "mitmdump"
        other.parent.mkdir()
        other.touch(0o755)
        monkeypatch.setenv("PATH", str(other.parent))
        assert ("note", "bin/mitmdump is of another installation") in [
            (level, line.partition(":")[0]) for level, line in found("versions")
        ]
        other.unlink()
        assert any("mitmdump is not on the PATH: start " in line for _, line in found("versions"))

    def test_prices(self, monkeypatch: pytest.MonkeyPatch):
        ((level, _),) = found("prices")
        assert level == "good"
        monkeypatch.setattr(PriceTable, "load", lambda self: None)
        ((level, line),) = found("prices")
        assert (level, "no price table" in line) == ("bad", True)


class TestConfigured:
    def test_a_mistake_in_the_configuration_names_the_key(self, tmp_path: Path):
        (tmp_path / "gateway.toml").write_text('[providers.x]\nbase_urll = "http://localhost"\napi_kinds = []')
        assert found("configuration", "--config", "gateway.toml") == [
            ("bad", "gateway.toml: providers.x.base_urll: unknown key")
        ]
        assert found("keys", "--config", "gateway.toml") == []

    def test_keys_are_named_and_not_shown(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-secret")
        monkeypatch.setenv("GATEWAY_TOKEN", "token-secret")
        lines = found("keys")
        assert ("good", "OPENROUTER_API_KEY is set: the gateway pays openrouter with it") in lines
        assert ("note", "OPENAI_API_KEY is not set: openai gets the client's own key") in lines
        assert ("good", "GATEWAY_TOKEN is set: who shows it may spend the gateway's keys") in lines
        assert "secret" not in run("doctor", "--json").stdout


class TestDatabase:
    def test_one_that_is_there(self, tmp_path: Path):
        write(tmp_path / "gateway.db", (make_record(), Content()))
        assert found("database") == [("good", "gateway.db can be written to")]
        (tmp_path / "gateway.db").chmod(0o644)
        assert found("database")[1:] == [("note", "gateway.db can be read by others: chmod 600 gateway.db")]

    def test_one_that_is_not_there_yet(self):
        assert found("database", "new.db") == [("good", "new.db can be made")]
        ((level, line),) = found("database", "nowhere/new.db")
        assert (level, line.startswith("nowhere/new.db: its folder does not exist")) == ("bad", True)

    def test_one_that_may_not_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        write(tmp_path / "gateway.db", (make_record(), Content()))
        access = os.access
        # root may write anywhere, and may be who runs this
        for path, why in ((tmp_path / "gateway.db", "cannot be read and written"), (tmp_path, "its folder cannot be")):
            monkeypatch.setattr(os, "access", lambda asked, *more, path=path: asked != path and access(asked, *more))
            ((level, line),) = found("database")
            assert (level, line.startswith(f"gateway.db: {why}")) == ("bad", True)

    def test_one_of_a_newer_version(self, tmp_path: Path):
        make_newer(tmp_path / "gateway.db")
        ((level, line),) = found("database")
        assert (level, "newer version" in line) == ("bad", True)

    def test_one_that_is_damaged(self, tmp_path: Path):
        path = tmp_path / "gateway.db"
        write(path, *((make_record(id=f"{number}"), Content()) for number in range(200)))
        with sqlite3.connect(path) as db:
            (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'requests'").fetchone()
            (size,) = db.execute("PRAGMA page_size").fetchone()
        db.close()
        content = bytearray(path.read_bytes())
        content[(root - 1) * size : root * size] = bytes(size)
        path.write_bytes(content)
        ((level, line),) = found("database")
        assert (level, line.startswith("gateway.db: ")) == ("bad", True)

    @pytest.mark.parametrize("content", [b"no database at all, but long enough to be one" * 20, b"5:hello,"])
    def test_a_file_of_something_else(self, content: bytes, tmp_path: Path):
        (tmp_path / "gateway.db").write_bytes(content)
        assert [level for level, _ in found("database")] == ["bad"]
        assert (tmp_path / "gateway.db").read_bytes() == content


SUITS = [
    ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1", None),
    ("ANTHROPIC_BASE_URL", "https://gateway.example/anthropic/", None),
    ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1/v1", "leave /v1 off"),
    ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1/v1/messages", "leave /messages off"),
    ("ANTHROPIC_BASE_URL", "127.0.0.1:1", "give http://127.0.0.1:PORT/…"),
    ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1", None),
    ("OPENAI_BASE_URL", "http://127.0.0.1:1/api/v1/", None),
    ("OPENAI_BASE_URL", "http://127.0.0.1:1", "add /v1"),
    ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/chat/completions", "leave /chat/completions off"),
    *(
        (variable, f"http://127.0.0.1:1/api/{prefix}{end}", None)
        for variable in ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL")
        for prefix in ("gateway", "openrouter")
        for end in ("", "/v1", "/v1/")
    ),
    ("OPENAI_BASE_URL", "http://127.0.0.1:1/api/gateway/openai/v1", "/api/gateway and no more"),
]


class TestBaseUrl:
    @pytest.mark.parametrize(("variable", "url", "mend"), SUITS)
    def test_of_a_variable(self, variable: str, url: str, mend: str | None, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(variable, url)
        (line, *_) = found("base_url")
        judged = ("bad", f"is wrong: {mend}") if mend else ("good", "is right")
        assert line == (judged[0], f"{variable}={url} {judged[1]}")

    def test_a_secret_in_it_is_not_shown(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OPENAI_BASE_URL", "http://me:hidden@127.0.0.1:1/v1?key=hidden")
        assert found("base_url")[0][1].startswith("OPENAI_BASE_URL=http://…@127.0.0.1:1/v1 is wrong")
        assert "hidden" not in run("doctor").stdout

    @pytest.mark.parametrize(
        "url", ["", "http://[::1", "http://h:x/", "http://", "\x1b[2J", "http://127.0.0.1:99999/v1"]
    )
    def test_any_text_is_answered(self, url: str):
        result = run("doctor", "--base-url", url)
        assert (result.exit_code in (0, 1), result.stderr) == (True, "")
        assert "\x1b" not in result.stdout

    def test_one_that_is_named_must_suit_one_of_them(self):
        lines = [line for line in found("base_url", "--base-url", "http://127.0.0.1:1/v1") if "SDK" in line[1]]
        assert lines == [
            ("note", "http://127.0.0.1:1/v1 is not for Anthropic SDKs: leave /v1 off"),
            ("good", "http://127.0.0.1:1/v1 suits OpenAI SDKs"),
        ]
        url = "http://127.0.0.1:1/v1/responses"
        assert [level for level, line in found("base_url", "--base-url", url) if "SDK" in line] == ["bad", "bad"]

    def test_whether_anybody_listens_there(self, port: int, taken: int):
        lines = found("base_url", "--base-url", f"http://localhost:{port}")
        assert ("note", f"--base-url: nothing listens at 127.0.0.1:{port}: start mitmdump") in lines
        lines = found("base_url", "--base-url", f"http://localhost:{taken}")
        assert not any("nothing listens" in line for _, line in lines)
        ((level, _),) = found("port", "--base-url", f"http://127.0.0.1:{taken}", port=taken)
        assert level == "note"

    def test_a_proxy_that_would_get_the_calls(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
        line = ("bad", "--base-url: a proxy of the environment gets these calls: NO_PROXY=127.0.0.1")
        assert line in found("base_url", "--base-url", "http://127.0.0.1:1/v1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert line not in found("base_url", "--base-url", "http://127.0.0.1:1/v1")


class TestForwardProxy:
    def test_one_that_the_environment_names(self, port: int, taken: int, monkeypatch: pytest.MonkeyPatch):
        assert found("forward_proxy") == []
        monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{port}")
        assert found("forward_proxy") == [("note", f"HTTPS_PROXY: nothing listens at 127.0.0.1:{port}: start mitmdump")]
        monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{taken}")
        assert found("forward_proxy") == []

    def test_hosts_that_go_past_it(self, taken: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{taken}")
        monkeypatch.setenv("NO_PROXY", "openai.com")
        assert found("forward_proxy") == [
            ("note", "calls to api.openai.com go past the forward proxy: take it out of NO_PROXY")
        ]


class TestCertificate:
    def test_is_needed_by_a_forward_proxy_only(self, monkeypatch: pytest.MonkeyPatch):
        ((level, line),) = found("certificate")
        assert (level, line) == (
            "note",
            "mitmproxy has no certificate yet; a forward proxy needs one: start mitmdump once",
        )
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:8080")
        ((level, _),) = found("certificate")
        assert level == "bad"

    def test_who_trusts_it(self, authority: Path, monkeypatch: pytest.MonkeyPatch):
        file = str(authority / doctor.CERTIFICATE)
        (valid, *programs) = found("certificate", "--confdir", authority)
        assert valid[0] == "good"
        assert programs == [
            ("note", "it is not trusted by Node: set NODE_EXTRA_CA_CERTS to it"),
            ("note", "it is not trusted by Codex: set CODEX_CA_CERTIFICATE to it"),
            ("note", "it is not trusted by other native programs: set SSL_CERT_FILE to it"),
            ("note", "it is not trusted by Python's SDKs and Aider: set SSL_CERT_FILE to it"),
            ("note", "it is not trusted by Python's requests: set REQUESTS_CA_BUNDLE to it"),
        ]
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:8080")
        monkeypatch.setenv("SSL_CERT_FILE", file)
        levels = [level for level, _ in found("certificate", "--confdir", authority)]
        assert levels == ["good", "bad", "good", "good", "good", "bad"]
        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", file)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", file)
        levels = [level for level, _ in found("certificate", "--confdir", authority)]
        assert levels == ["good"] * 6

    def test_native_programs_go_by_the_system(self, authority: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(doctor, "SYSTEM_CERTIFICATES", ("/nowhere", str(authority / doctor.CERTIFICATE)))
        trusted = [line for level, line in found("certificate", "--confdir", authority)[1:] if level == "good"]
        assert trusted == [
            "it is trusted by Codex, for the system does",
            "it is trusted by other native programs, for the system does",
        ]

    @pytest.mark.parametrize("text", [None, "no certificate"])
    def test_a_variable_that_names_no_file_of_certificates(
        self, text: str | None, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        if text:
            (tmp_path / "ca.pem").write_text(text)
        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(tmp_path / "ca.pem"))
        assert ("bad", "Node: NODE_EXTRA_CA_CERTS names no file of certificates: unset it") in found(
            "certificate", "--confdir", authority
        )
