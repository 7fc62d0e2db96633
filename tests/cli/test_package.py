"""What the package brings along, and that mitmproxy can load it."""

import ast
from pathlib import Path

import pytest

from gateway_addon import config
from gateway_addon.proxy import hooks
from tests.commands import as_json, output, run
from tests.make_demo import DEMO
from tests.mitmdump import ADDON, run_mitmdump


def code(path: Path) -> list[str]:
    docstring, *statements = ast.parse(path.read_text()).body
    assert isinstance(docstring, ast.Expr)
    return [ast.dump(statement) for statement in statements]


def test_the_script_of_the_package_is_that_of_the_project():
    assert code(Path(output("addon-path").strip())) == code(ADDON)


def test_the_script_is_alone_in_its_folder():
    """Which mitmproxy puts at the front of `sys.path`, so that what lies there hides modules of those names."""
    folder = Path(output("addon-path").strip()).parent
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"__init__.py", "addon.py"}


def test_the_example_configuration_is_one():
    config.load(Path(output("addon-path", "config").strip()), {})


def test_the_demo_is_one():
    assert len(as_json("list", output("addon-path", "demo").strip())) == 13


def test_a_word_that_names_no_file():
    assert run("addon-path", "dem").exit_code == 2


@pytest.mark.long
def test_both_at_once_are_the_addon_once(confdir: Path, tmp_path: Path):
    script = output("addon-path").strip()
    read = run_mitmdump("-s", script, "-n", "-r", str(DEMO), confdir=confdir, options={"gateway_db": tmp_path / "x.db"})
    assert read.returncode == 0
    assert "gateway-addon: loaded already, by another script" in read.stdout
    assert "gateway-addon: 13 calls" in read.stdout


def test_a_module_of_the_package_is_no_script(confdir: Path, tmp_path: Path):
    ended = run_mitmdump(addon=Path(hooks.__file__), confdir=confdir, options={"gateway_db": tmp_path / "gateway.db"})
    assert ended.returncode == 1
    assert ended.stdout.count("gateway-addon: hooks.py is no script") == 1
    assert "Traceback" not in ended.stdout
    assert not (tmp_path / "gateway.db").exists()
