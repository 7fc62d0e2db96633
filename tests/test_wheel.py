"""The package as others install it: built, put into an empty environment, and used from another folder."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway_addon import __version__
from gateway_addon.cli import main
from tests.client import PATHS, Call, request_body
from tests.mitmdump import ADDON, clean_environment, free_port, rows
from tests.provider import Provider

SECONDS = 600
"""For an installation, which may have to download everything."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(3 * SECONDS),
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv builds it"),
]


type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def run(elsewhere: Path) -> Run:
    """Run a command in a folder that knows nothing of this one; its exit code must be `code`."""

    def run(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        env = clean_environment({"HOME": str(elsewhere), "PYTHONPATH": "", "VIRTUAL_ENV": ""})
        words = [str(word) for word in command]
        done = subprocess.run(
            words, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def wheel(run: Run, elsewhere: Path) -> Path:
    run("uv", "build", "--out-dir", elsewhere / "dist", ADDON.parent)
    (wheel,) = (elsewhere / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def programs(run: Run, wheel: Path, elsewhere: Path) -> Path:
    """The folder of the programs of an environment in which pip has installed it."""
    run(sys.executable, "-m", "venv", elsewhere / "venv")
    run(elsewhere / "venv" / "bin" / "pip", "install", "--quiet", wheel)
    return elsewhere / "venv" / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    brought = ("py.typed", "demo.flow", "gateway.example.toml", "page/metadata.yaml", "script/addon.py")
    assert {f"gateway_addon/{name}" for name in brought} <= names
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"gateway_addon", f"gateway_addon-{__version__}.dist-info"}


def test_what_pip_installed_knows_where_it_is(run: Run, programs: Path):
    assert run(programs / "gateway-addon", "--version").stdout.strip().endswith(__version__)
    for what in ("script", "config", "demo"):
        path = Path(run(programs / "gateway-addon", "addon-path", what).stdout.strip())
        assert path.is_file()
        assert path.is_relative_to(programs.parent)


def test_the_demo(run: Run, programs: Path, elsewhere: Path):
    script, demo = (run(programs / "gateway-addon", "addon-path", what).stdout.strip() for what in ("script", "demo"))
    options = ("--set", "gateway_db=demo.db", "--set", "termlog_verbosity=alert", "--flow-detail", "0")
    printed = run(programs / "mitmdump", "-n", "-r", demo, "-s", script, *options).stdout
    assert "13 calls, 2 not complete" in printed
    assert len(printed.splitlines()) == 15
    assert len(json.loads(run(programs / "gateway-addon", "list", "demo.db", "--json").stdout)) == 13


def test_a_call(run: Run, programs: Path, elsewhere: Path, provider: Provider):
    """Live, and by `run` where there is one."""
    script = run(programs / "gateway-addon", "addon-path").stdout.strip()
    port = free_port()
    command = (programs / "mitmdump", "-s", script, "--mode", f"reverse:{provider.url}@127.0.0.1:{port}")
    with subprocess.Popen(
        [str(word) for word in (*command, "--set", "gateway_db=live.db")],
        cwd=elsewhere,
        env=clean_environment({"HOME": str(elsewhere)}),
        stdout=subprocess.PIPE,
        text=True,
    ) as proxy:
        assert proxy.stdout
        assert any(f"gateway-addon {__version__}: " in line for line in proxy.stdout)
        assert Call(f"http://127.0.0.1:{port}", PATHS["messages"], request_body("messages", "fake/text")).read()
        proxy.terminate()
        assert "1 calls, 0 not complete" in proxy.stdout.read()
    assert rows(elsewhere / "live.db", "SELECT outcome FROM requests") == [{"outcome": "complete"}]


@pytest.mark.skipif("run" not in main.commands, reason="there is no `run` yet")
def test_run(run: Run, programs: Path, elsewhere: Path, provider: Provider):
    call = (
        "import json, os, urllib.request as r;"
        "body = json.dumps({'model': 'fake/text', 'messages': []}).encode();"
        "r.urlopen(r.Request(os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages', body)).read()"
    )
    options = ("--base-url-var", "ANTHROPIC_BASE_URL", "--upstream", provider.url, "--db", "run.db")
    run(programs / "gateway-addon", "run", *options, "--", programs / "python", "-c", call)
    assert rows(elsewhere / "run.db", "SELECT outcome FROM requests") == [{"outcome": "complete"}]


def test_the_doctor_finds_nothing_wrong(run: Run, programs: Path):
    found = json.loads(run(programs / "gateway-addon", "doctor", "--port", free_port(), "--json").stdout)
    assert {one["check"] for one in found} >= {"versions", "prices", "database", "port", "certificate"}


def test_uvx(run: Run, wheel: Path):
    """No environment at all."""
    demo = run("uvx", "--from", wheel, "gateway-addon", "addon-path", "demo").stdout.strip()
    calls = run("uvx", "--from", wheel, "gateway-addon", "list", demo, "--json").stdout
    assert len(json.loads(calls)) == 13
    run("uvx", "--from", wheel, "gateway-addon", "doctor", "--port", free_port())
