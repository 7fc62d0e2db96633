"""Conversations as one Markdown or HTML file. Whatever was said in them, it is shown and nothing else."""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from gateway_addon.transcript import Part
from gateway_addon.wire.text import plain, printable

LONG = 12
"""Lines of a text beyond which it is folded."""


class Chapter(NamedTuple):
    heading: str
    parts: Sequence[Part]


def markdown(title: str, chapters: Iterable[Chapter]) -> Iterator[str]:
    """Lines of a file in which texts stand in fences, so that no link or tag in them is one."""
    yield f"# {_code(title)}\n"
    for chapter in chapters:
        yield f"\n## {_code(chapter.heading)}\n"
        for part in chapter.parts:
            match part.style:
                case "heading":
                    yield f"\n### {part.text}\n"
                case "facts":
                    yield f"\n{_code(part.text)}\n"
                case _:
                    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", part.text)), default=0))
                    yield f"\n{fence}text\n{printable(part.text)}\n{fence}\n"


def _code(text: str) -> str:
    return f"`{plain(text).replace('`', "'") or ' '}`"


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; font: 14px/1.5 ui-monospace, monospace; }
.aside, summary { opacity: .7; }
.facts { color: #0a7ea4; font-size: 12px; }
h2 { border-top: 1px solid; padding-top: .5rem; margin-top: 2rem; overflow-wrap: anywhere; }
h3 { margin: 1rem 0 0; font-size: 1rem; }
.user { color: #2e8b57; } .assistant { color: #4169e1; } .system { color: #a0409a; } .tool { color: #b8860b; }
"""

# even if something in a text were taken for a tag, a browser would load and run nothing
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def html(title: str, chapters: Iterable[Chapter]) -> Iterator[str]:
    """Pieces of a file that stands alone: no script, nothing to load."""
    yield (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(plain(title))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(plain(title))}</h1>\n"
    )
    for chapter in chapters:
        yield f"<h2>{escape(plain(chapter.heading))}</h2>\n"
        yield from map(_html, chapter.parts)
    yield "</body>\n</html>\n"


def _html(part: Part) -> str:
    if part.style == "heading":
        return f'<h3 class="{part.text.split()[0]}">{escape(part.text)}</h3>\n'
    text = plain(part.text) if part.style == "facts" else printable(part.text)
    shown = f'<pre class="{part.style}">{escape(text)}</pre>\n'
    lines = text.splitlines()
    if part.style != "aside" or len(lines) <= LONG:
        return shown
    return f"<details><summary>{escape(lines[0][:100])} … {len(lines)} lines</summary>{shown}</details>\n"


FORMS = {"md": markdown, "html": html}
"""The kinds of file by their endings."""
