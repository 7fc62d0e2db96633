"""The helper that runs real mitmdump processes, tested with small addons of its own."""

import signal
import urllib.request
from pathlib import Path

import pytest

from tests.mitmdump import Mitmdump, clean_environment, read_flows, rows, run_mitmdump
from tests.provider import Provider

ADDON = """
import logging, os, sqlite3

def request(flow):
    logging.info("saw %s with key %s", flow.request.path, os.environ.get("TOY_API_KEY"))

def response(flow):
    db = sqlite3.connect(os.environ["TOY_DB"])
    db.execute("create table if not exists seen (path, status)")
    db.execute("insert into seen values (?, ?)", (flow.request.path, flow.response.status_code))
    db.commit()
"""


@pytest.fixture
def addon(tmp_path: Path) -> Path:
    path = tmp_path / "toy_addon.py"
    path.write_text(ADDON)
    return path


def get(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through the developer's own proxy
    with opener.open(url) as answer:
        answer.read()


def test_a_process_serves_records_and_stops(
    provider: Provider, confdir: Path, addon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOY_API_KEY", "sk-of-the-developer")
    db, saved = tmp_path / "toy.db", tmp_path / "saved.flow"
    env = {"TOY_DB": str(db)}
    with Mitmdump(provider.url, confdir=confdir, addon=addon, args=["-w", str(saved)], env=env) as proxy:
        get(f"{proxy.url}/v1/models")
        proxy.wait_for("saw /v1/models")
        assert "with key None" in proxy.stdout
        assert proxy.stop() == 0
    assert [received.path for received in provider.requests] == ["/v1/models"]
    assert rows(db, "select * from seen") == [{"path": "/v1/models", "status": 200}]
    assert len(read_flows(saved)) == 1

    again = run_mitmdump("-n", "-r", str(saved), confdir=confdir, addon=addon, env=env)
    assert again.returncode == 0
    assert len(rows(db, "select * from seen")) == 2


def test_two_modes_listen_on_two_ports_and_both_are_killed(provider: Provider, confdir: Path):
    with Mitmdump("", confdir=confdir, addon=None, modes=[f"reverse:{provider.url}", "regular"]) as proxy:
        assert len(set(proxy.urls)) == 2
    assert proxy.process.returncode == -signal.SIGKILL


def test_a_start_that_ends_before_it_listens_tells_why(confdir: Path):
    with pytest.raises(AssertionError, match="no-such-mode"), Mitmdump("", confdir=confdir, modes=["no-such-mode"]):
        pass


def test_a_start_that_must_fail_returns_code_and_output(confdir: Path, tmp_path: Path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise ValueError('this addon is broken')")
    failed = run_mitmdump(confdir=confdir, addon=broken)
    assert failed.returncode == 1
    assert "this addon is broken" in failed.stdout


def test_waiting_for_what_an_ended_process_never_said_fails_with_its_output(provider: Provider, confdir: Path):
    with Mitmdump(provider.url, confdir=confdir, addon=None) as proxy:
        proxy.stop()
        with pytest.raises(AssertionError, match=r"'a miracle'(.|\n)*listening at"):
            proxy.wait_for("a miracle")


def test_the_environment_keeps_no_key_of_the_developer(monkeypatch: pytest.MonkeyPatch):
    for name in ("OPENROUTER_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GATEWAY_ADMIN_TOKEN"):
        monkeypatch.setenv(name, "secret")
    environment = clean_environment({"OPENAI_API_KEY": "sk-test"})
    assert "secret" not in environment.values()
    assert environment["OPENAI_API_KEY"] == "sk-test"
