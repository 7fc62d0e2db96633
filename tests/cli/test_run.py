"""`run`: real mitmdump processes, with small programs as the agents."""

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway_addon.cli import run as run_module
from tests.commands import as_json
from tests.commands import run as in_process
from tests.gateways import KEYS
from tests.mitmdump import PATIENCE, clean_environment, rows
from tests.provider import Provider

CALL = """
import json, os, sys, urllib.request

def call(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))

def message(model):
    return {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Why?"}]}
"""

Agent = Callable[..., str]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """`agent(code)` makes a program of that name and returns its path."""

    def make(code: str, name: str = "some-agent") -> str:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{CALL}\n{textwrap.dedent(code)}")
        path.chmod(0o755)
        return str(path)

    return make


def command(tmp_path: Path, confdir: Path, *arguments: str) -> list[str]:
    own = ["--db", str(tmp_path / "gateway.db"), "--set", f"confdir={confdir}"]
    return [sys.executable, "-m", "gateway_addon", "run", *own, *arguments]


def run(tmp_path: Path, confdir: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(tmp_path, confdir, *arguments),
        capture_output=True,
        text=True,
        env=clean_environment(env),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )


def test_an_agent_it_knows_is_wired_and_its_calls_told(provider: Provider, agent: Agent, confdir: Path, tmp_path: Path):
    claude = agent(
        """
        print(call(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", message("fake/text"))["type"], sys.argv[1:])
        sys.exit(7)
        """,
        "claude",
    )
    done = run(tmp_path, confdir, "--upstream", provider.url, "--", claude, "-p", "--model", "x")
    # what the agent says and returns is untouched
    assert (done.returncode, done.stdout) == (7, "message ['-p', '--model', 'x']\n")
    db = tmp_path / "gateway.db"
    summary, where = done.stderr.splitlines()
    assert "1 calls, 0 not complete · in 120 (cached 0) out 24" in summary
    assert summary.endswith(" · 1 complete")
    look = where.partition("gateway-addon list ")[2].split()
    (row,) = as_json("list", *look)
    assert (row["outcome"], look[0]) == ("complete", str(db))
    assert [request.path for request in provider.requests] == ["/v1/messages"]
    assert (tmp_path / "gateway.db.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--db", "/no/such/folder/gateway.db"], "/no/such/folder/gateway.db: its folder does not exist"),
        (["--db", "some-agent"], "some-agent: file is not a database"),
        (["--config", "/no/such/gateway.toml"], "gateway.toml: No such file or directory"),
        (["--set", "gateway_dbb=1"], "unknown option: gateway_dbb"),
    ],
    ids=["folder", "database", "config", "option"],
)
@pytest.mark.long
def test_no_agent_without_a_proxy(options: list[str], named: str, agent: Agent, confdir: Path, tmp_path: Path):
    some = agent("print('started')")
    done = run(tmp_path, confdir, *options, "--forward", "--", some)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert named in done.stderr


@pytest.mark.long
def test_a_port_that_is_taken(agent: Agent, confdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(run_module, "free_ports", lambda count: [taken.getsockname()[1]])
        result = in_process(*command(tmp_path, confdir, "--", agent("sys.exit(9)"))[3:])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "address already in use" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--", "no-such-program"],
        ["--gateway", "--", "sh"],
        ["--forward", "--gateway", "--", "sh"],
        ["--base-url-var", "LLM_URL", "--", "sh"],
        ["--base-url-var", "LLM_URL", "--upstream", "localhost:9000", "--", "sh"],
        [],
    ],
    ids=["missing", "no-address", "both", "whose", "no-url", "nothing"],
)
def test_bad_usage_is_told_in_one_line(arguments: list[str]):
    result = in_process("run", *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)


@pytest.mark.long
def test_any_program_goes_through_a_forward_proxy_and_trusts_it(
    provider: Provider, agent: Agent, confdir: Path, tmp_path: Path
):
    some = agent('print(call("https://api.anthropic.com/v1/messages", message("claude-sonnet-4-6"))["type"])')
    # nothing leaves the machine
    detour = {"connection_strategy": "lazy", "upstream_cert": "false", "map_remote": f"%https://[^/]+/%{provider.url}/"}
    options = [f"--set={name}={value}" for name, value in detour.items()]
    provider.default = "text"
    done = run(tmp_path, confdir, *options, "--", some)
    assert (done.returncode, done.stdout) == (0, "message\n")
    assert "1 calls, 0 not complete · in 120 (cached 0) out 24 · $0.0007" in done.stderr
    (row,) = rows(tmp_path / "gateway.db", "SELECT upstream_host, provider FROM requests")
    assert row == {"upstream_host": "api.anthropic.com", "provider": "anthropic"}


@pytest.mark.long
def test_the_gateway_spends_its_own_key(provider: Provider, config: Path, agent: Agent, confdir: Path, tmp_path: Path):
    some = agent('call(os.environ["LLM_URL"] + "/chat/completions", message("acme/chat-only"))')
    options = ["--gateway", "--config", str(config), "--base-url-var", "LLM_URL", "--upstream", provider.url]
    done = run(tmp_path, confdir, *options, "--", some, **KEYS)
    assert done.returncode == 0
    (row,) = rows(tmp_path / "gateway.db", "SELECT request_model, upstream_model, outcome FROM requests")
    assert row == {"request_model": "acme/chat-only", "upstream_model": "fake/text", "outcome": "complete"}
    assert provider.requests[0].headers["authorization"] == f"Bearer {KEYS['TOY_KEY']}"


@pytest.mark.long
def test_without_the_gateway_its_paths_are_as_any_other(
    provider: Provider, agent: Agent, confdir: Path, tmp_path: Path
):
    some = agent('call(os.environ["OPENAI_BASE_URL"] + "/chat/completions", message("fake/text"))')
    upstream = f"{provider.url}/api/gateway"
    done = run(tmp_path, confdir, "--base-url-var", "OPENAI_BASE_URL", "--upstream", upstream, "--", some)
    assert done.returncode == 0
    assert [request.path for request in provider.requests] == ["/api/gateway/chat/completions"]


@pytest.mark.long
def test_only_the_calls_of_this_run_are_told(provider: Provider, agent: Agent, confdir: Path, tmp_path: Path):
    some = agent('[call(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", message("fake/text")) for _ in sys.argv]')
    options = ["--base-url-var", "ANTHROPIC_BASE_URL", "--upstream", provider.url]
    assert "gateway-addon: 2 calls" in run(tmp_path, confdir, *options, "--", some, "x").stderr
    assert "gateway-addon: 1 calls" in run(tmp_path, confdir, *options, "--", some).stderr
    assert "no model calls came this way" in run(tmp_path, confdir, *options, "--", agent("")).stderr


@contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command without a terminal, and with a process group of its own, of which nothing is left."""
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
        env=clean_environment(),
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
@pytest.mark.long
def test_signals_are_the_agents(name: str, agent: Agent, confdir: Path, tmp_path: Path):
    """SIGINT as another program sends it, without a terminal."""
    some = agent(
        f"""
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{name}])
        print("ready", flush=True)
        print("got", signal.sigwait([signal.{name}]).name)
        sys.exit(3)
        """
    )
    with started(command(tmp_path, confdir, "--", some)) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[name])
        said, _ = process.communicate(timeout=PATIENCE)
        assert (said, process.returncode) == (f"got {name}\n", 3)


@pytest.mark.long
def test_signals_that_come_together_are_all_passed_on(agent: Agent, confdir: Path, tmp_path: Path):
    """The second may find the main thread busy with the first: another must not take it, which passes nothing on."""
    some = agent(
        """
        import signal
        both = [signal.SIGUSR1, signal.SIGUSR2]
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        print("ready", flush=True)
        while sys.stdin.readline():
            print({signal.sigwait(both).name for _ in both} == {"SIGUSR1", "SIGUSR2"}, flush=True)
        """
    )
    with started(command(tmp_path, confdir, "--", some)) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for _ in range(2000):
            process.stdin.write("both\n")
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGUSR2)
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            assert process.stdout.readline() == "True\n"
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@pytest.mark.long
def test_ctrl_c_in_a_terminal_comes_once(agent: Agent, confdir: Path, tmp_path: Path):
    some = agent(
        """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1])
        print("ready", os.isatty(0), flush=True)
        signal.sigwait([signal.SIGINT])
        # out of the terminal's foreground, it gets only what is passed on
        os.setpgid(0, 0)
        print("apart", flush=True)
        signal.sigwait([signal.SIGUSR1])
        print("passed on", signal.SIGINT in signal.sigpending(), flush=True)
        """
    )
    terminal, inside = pty.openpty()
    # the terminal's own process, as a shell is
    become = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    arguments = [sys.executable, "-c", become, *command(tmp_path, confdir, "--", some)]
    with subprocess.Popen(
        arguments, stdin=inside, stdout=inside, stderr=inside, start_new_session=True, env=clean_environment()
    ) as process:
        os.close(inside)
        shown = b""

        def until(word: bytes) -> None:
            nonlocal shown
            while word not in shown:
                assert select.select([terminal], [], [], PATIENCE)[0], shown
                shown += os.read(terminal, 1000)

        until(b"ready True")
        os.write(terminal, b"\x03")
        until(b"apart")
        os.write(terminal, b"\x03")
        # shown when the signal has been sent
        until(b"^C")
        # passed on behind whatever else is
        process.send_signal(signal.SIGUSR1)
        until(b"passed on False")
        until(b"no model calls")
        assert process.wait(PATIENCE) == 0
    os.close(terminal)


@pytest.mark.long
def test_an_agent_that_is_killed_ends_as_in_a_shell(agent: Agent, confdir: Path, tmp_path: Path):
    assert run(tmp_path, confdir, "--", agent("os.kill(os.getpid(), 9)")).returncode == 128 + 9


@pytest.mark.long
def test_a_proxy_that_dies_is_told(agent: Agent, confdir: Path, tmp_path: Path):
    some = agent(
        """
        siblings = open(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read().split()
        (proxy,) = [int(pid) for pid in siblings if int(pid) != os.getpid()]
        os.kill(proxy, 9)
        # whoever waits for it learns of its end no sooner than this
        while open(f"/proc/{proxy}/stat").read().rpartition(")")[2].split()[0] != "Z":
            pass
        """
    )
    done = run(tmp_path, confdir, "--", some)
    assert done.returncode == 0
    assert "mitmdump ended before the agent, with exit code -9" in done.stderr
