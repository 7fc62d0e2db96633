"""Fixtures for tests that need a provider, or a real mitmdump in front of one."""

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.gateways import write_certificate, write_config
from tests.mitmdump import Mitmdump
from tests.provider import Provider
from tests.recorded import record

# hundreds of processes are started: each would compile mitmproxy anew where nobody keeps the bytecode
os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / ".pytest_cache" / "pycache")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# no test may fail because the machine is busy, or because today's examples are others than yesterday's
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# looks for new ones: HYPOTHESIS=search uv run pytest
settings.register_profile("search", settings.get_profile("repeatable"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS", "repeatable"))


@pytest.fixture(scope="session")
def session_provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(session_provider: Provider) -> Iterator[Provider]:
    """A fake provider that has seen nothing yet (tests/provider/README.md)."""
    session_provider.reset()
    yield session_provider
    session_provider.reset()


@pytest.fixture(scope="session")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mitmproxy's own folder; shared, because making its certificates takes a while."""
    return tmp_path_factory.mktemp("mitmproxy")


@pytest.fixture(scope="session")
def recorded(session_provider: Provider, confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `gateway.db` and `all.flow` of a live run through every scenario (tests/recorded.py)."""
    folder = tmp_path_factory.mktemp("recorded")
    record(folder, session_provider, confdir)
    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the provider that speaks TLS, and its own authority."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    write_certificate(path)
    return path


@pytest.fixture(scope="session")
def tls_provider(certificate: Path) -> Iterator[Provider]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Provider(tls=context) as provider:
        yield provider


@pytest.fixture
def secure(tls_provider: Provider) -> Iterator[Provider]:
    """A second provider, on HTTPS, that has seen nothing yet."""
    tls_provider.reset()
    yield tls_provider
    tls_provider.reset()


@pytest.fixture(scope="session")
def config(session_provider: Provider, tls_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `gateway.toml` for both providers (tests/gateways.py)."""
    path = tmp_path_factory.mktemp("config") / "gateway.toml"
    write_config(path, session_provider, tls_provider)
    return path


@pytest.fixture
def mitmdump(provider: Provider, confdir: Path, tmp_path: Path) -> Iterator[Callable[..., Mitmdump]]:
    """`mitmdump(**arguments)` starts a mitmdump with our addon in front of the provider and returns it, listening.

    It takes the keyword arguments of `Mitmdump`. The database is `gateway.db` in the test's `tmp_path` unless `options`
    say otherwise. Every process ends with the test.
    """
    with ExitStack() as running:

        def start(upstream: str = provider.url, **arguments: Any) -> Mitmdump:
            arguments["options"] = {"gateway_db": tmp_path / "gateway.db"} | arguments.get("options", {})
            return running.enter_context(Mitmdump(upstream, confdir=confdir, **arguments))

        yield start
