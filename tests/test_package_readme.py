"""The package's README: its example runs, its map names every room; and the links of all pages lead somewhere."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.provider import messages as fake
from tests.provider.answer import Answer

PACKAGE = Path(__file__).parents[1] / "gateway_addon"
README = (PACKAGE / "README.md").read_text()
PAGES = {str(path.relative_to(PACKAGE.parent)): path for path in sorted(PACKAGE.rglob("*.md"))}
PAGES["README.md"] = PACKAGE.parent / "README.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    request = {"model": "m", "messages": [{"role": "user", "content": "why?"}], "stream": True}
    (tmp_path / "request.json").write_text(json.dumps(request))
    (tmp_path / "answer.sse").write_bytes(b"".join(fake.events(Answer(model="m", text="because"))))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    record, content = names["record"], names["content"]
    assert (record.outcome, record.request_model, record.input_tokens, record.output_tokens) == (
        "complete",
        "m",
        120,
        24,
    )
    assert (content.user_prompt, content.answer_text) == ("why?", "because")


def test_the_map_names_every_room():
    named = set(re.findall(r"`([\w.]+)/?`", README.partition("## The five ways")[0]))
    rooms = {path.name for path in PACKAGE.iterdir()} - {"__init__.py", "__pycache__", "README.md"}
    assert sorted(rooms - named) == []


@pytest.mark.parametrize("room", ["proxy", "otlp", "captures", "store", "gateway", "review", "sinks", "wire", "page"])
def test_the_map_names_every_module_of_a_room(room: str):
    (line,) = [line for line in README.splitlines() if line.startswith("|") and f"`{room}/`" in line.split("|")[1]]
    named = set(re.findall(r"`(\w+)`", line))
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    assert sorted(modules - named) == []


@pytest.mark.parametrize("name", PAGES)
def test_links_and_modules_lead_somewhere(name: str):
    page = PAGES[name]
    text = page.read_text()
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), anchor
    for path in re.findall(r"`([\w/]+\.(?:py|md))", text):
        places = (page.parent, PACKAGE, PACKAGE.parent)
        assert any((place / path).exists() for place in places), path


def anchors(page: Path) -> set[str]:
    """What a link can name in a page: its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
