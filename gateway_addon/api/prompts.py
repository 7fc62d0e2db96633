"""Telling a person's words from what harnesses wrap around them (wire-formats §6), and cleaning extracted text."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

KEPT_TAGS = ("task", "user_message", "feedback")
"""Elements that hold a person's words: only the tags go."""

DROPPED_TAGS = (
    # Claude Code
    "system-reminder",
    "command-name",
    "command-message",
    "command-args",
    "local-command-stdout",
    "local-command-caveat",
    "bash-input",
    "bash-stdout",
    "bash-stderr",
    "task-notification",
    "available-deferred-tools",
    # Codex
    "environment_context",
    "user_instructions",
    "skill",
    "user_shell_command",
    "turn_aborted",
    "subagent_notification",
    "permissions instructions",
    "app-context",
    "collaboration_mode",
    "apps_instructions",
    "plugins_instructions",
    "skills_instructions",
    # Cline, Roo Code, Kilo Code
    "environment_details",
)
"""Elements that a harness adds to a user turn: they go with all they hold."""

_TAG = re.compile(
    rf"""
    (?P<line>^[ \t]*+)?
    (?:
        <(?P<dropped>{"|".join(map(re.escape, DROPPED_TAGS))})(?:\s[^<>]*+)?>
      | ^\#\ AGENTS\.md\ instructions[^\n]*+\s*+<(?P<agents>INSTRUCTIONS)>
      | <(?P<kept>{"|".join(KEPT_TAGS)})>
      | </(?P<closed>{"|".join(KEPT_TAGS)})>
    )
    """,
    re.MULTILINE | re.VERBOSE,
)

_NOTICE = re.compile(r"^[ \t]*+\[Request interrupted by user[^\]\n]*\]", re.MULTILINE)

_HARNESS_PART = re.compile(
    r"\s*(?:This session is being continued from a previous conversation"
    r"|This is the (?:Qwen Code|Gemini CLI)\. We are setting up the context)"
)
"""How a part opens that a harness wrote from start to end."""

_HARNESS_TAIL = re.compile(
    r"^(?:To suggest changes to a file you MUST |# \*SEARCH/REPLACE block\* Rules:)", re.MULTILINE
)
"""Where the format rules begin that Aider glues to the end of a prompt."""

_TOOL_RESULT = re.compile(r"\s*\[[a-z]+(?:_[a-z]+)+(?: for '[^\n]*)?\] Result:")
"""How a tool result opens that Cline and Roo Code write as user text."""


def strip_wrappers(text: str) -> str:
    """What is left of one text part of a user turn without the text that a harness added (wire-formats §6.3).

    A tag counts only where it opens the part, a line, or follows the last dropped element at once, since people write
    such tags themselves. An unclosed element reaches to the end of the part. Time is linear in the length of `text`.
    """
    if _HARNESS_PART.match(text):
        return ""
    as_sent = text
    text = _NOTICE.sub("", text)
    if tail := _HARNESS_TAIL.search(text):
        text = text[: tail.start()]
    inside_only = _TOOL_RESULT.match(text) is not None
    pieces: list[str] = []
    opened: set[str] = set()
    position = 0

    def keep_until(end: int) -> None:
        if opened or not inside_only:
            pieces.append(text[position:end])

    for tag in _TAG.finditer(text):
        if tag.start() < position:
            continue  # inside a dropped element
        if closed := tag["closed"]:
            if closed not in opened:
                continue
            keep_until(tag.start())
            opened.remove(closed)
            position = tag.end()
        elif tag["line"] is not None or tag.start() == position:
            keep_until(tag.start())
            position = tag.end()
            if kept := tag["kept"]:
                opened.add(kept)
            else:
                closing = f"</{tag['dropped'] or tag['agents']}>"
                end = text.find(closing, position)
                position = len(text) if end < 0 else end + len(closing)
    keep_until(len(text))
    left = "".join(pieces)
    # the space around what was dropped is the harness's; without any, it is the person's
    return left if left == as_sent else left.strip()


def real_prompt(turns: Iterable[list[str]]) -> str | None:
    """What a person says in the first of `turns` with words of theirs: cleaned, its parts joined by newlines.

    None if there is none (wire-formats §6.2). `turns` are user turns, from the last to the first where the last thing
    said is wanted, each the list of its text parts as sent.
    """
    for turn in turns:
        if prompt := join_texts(_own_words(turn)):
            return prompt
    return None


def _own_words(turn: list[str]) -> Iterator[str]:
    for previous, part in pairwise(["", *turn]):
        # Cline may send the heading of a tool result as one part and the result itself as the next
        heading = f"{previous}\n" if _TOOL_RESULT.fullmatch(previous.rstrip()) else ""
        words = strip_wrappers(heading + part)
        if words.strip():
            yield words


_PROBES = ("quota", "test")

_COMPACTION = re.compile(
    r"You are performing a CONTEXT CHECKPOINT COMPACTION"
    r"|(?s:.*\n)?Your task is to create a detailed summary of [^\n]*\bconversation\b"
)
_COMPACTION_SYSTEM = re.compile(r"\btasked with summarizing conversations\b")
_TITLE_SYSTEM = re.compile(r"^You are a title generator\b|\bsentence-case title\b", re.MULTILINE)


def side_request(system: str | None, last_user_text: str | None, max_tokens: int | None, n_tools: int) -> str | None:
    """What a request is for if it is no turn of a person (wire-formats §6.3, last paragraph); None for a real turn.

    `last_user_text` is the text of the last user turn as sent, `n_tools` how many tools are offered.
    """
    system = system or ""
    text = strip_wrappers(last_user_text or "").strip()
    # People write words like these too, but no coding agent leaves the tools out of a person's turn
    toolless = n_tools == 0
    is_title = toolless and (
        text.startswith("Generate a title for this conversation:")
        or ("<session>" in text and "Write the title" in f"{system}\n{text}")
        or _TITLE_SYSTEM.search(system) is not None
    )
    signs = {
        "warmup": max_tokens == 0 or text == "Warmup",
        "quota_probe": max_tokens == 1 and text.lower() in _PROBES,
        "suggestion": text.startswith("[SUGGESTION MODE:"),
        "compaction": _COMPACTION.match(text) or (toolless and _COMPACTION_SYSTEM.search(system)),
        "transcript": toolless and text.startswith("<transcript>"),
        "title": is_title,
    }
    return next((name for name, seen in signs.items() if seen), None)


def is_volatile(text: str) -> bool:
    """Whether a system part is only Claude Code's billing line, which changes with every call (wire-formats §6.1)."""
    return text.startswith("x-anthropic-billing-header:") and "\n" not in text.strip()


_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DATA_URL = re.compile(r"data:([\w.+/-]{0,100})(?:;[\w.+=-]{1,100}){0,4}?;base64,([\w+/=-]+)", re.ASCII)


def clean(text: str) -> str:
    """Text fit for a database and for reading (design 2.4, traps 98, 99).

    NUL is removed, a lone surrogate becomes U+FFFD (two halves that arrived apart are joined), and the data of a base64
    URL gives way to a note of its type and length.
    """
    text = text.replace("\0", "")
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _DATA_URL.sub(lambda url: f"[{url[1] or 'data'}, {len(url[2])} characters of base64]", text)


def join_texts(parts: Iterable[str]) -> str | None:
    """The parts that are not empty, cleaned and joined by newlines; None if there are none."""
    return clean("\n".join(filter(None, parts))) or None
