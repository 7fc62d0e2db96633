"""Telling a person's words from what harnesses wrap around them, and cleaning extracted text.

Which elements a client writes is read from its own program (Claude Code 2.1, Codex 0.169, OpenCode 1.18, Cline 3, Qwen
Code) or its open source (Copilot Chat); all clients together, since some read what others left in a shared history.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, wraps
from itertools import compress, pairwise

from gateway_addon.api.base import RequestFacts
from gateway_addon.terms import SideRequest
from gateway_addon.wire.text import has_surrogates

ENVELOPES = (
    "userRequest",  # Copilot
    "user_command",  # Cline
    "user_input",  # Cline
    "user_message",  # Cline, Roo Code
    "user_query",  # Cursor
)
"""Elements that hold all a person said: in a part that opens with an element, only what they hold is a person's."""

KEPT_TAGS = (*ENVELOPES, "task", "answer", "feedback")
"""Elements that hold a person's words: only the tags go."""

DROPPED_TAGS = (
    # Claude Code
    "system-reminder",
    "command-name",
    "command-message",
    "command-args",
    "local-command-stdout",
    "local-command-stderr",
    "local-command-caveat",
    "bash-input",
    "bash-stdout",
    "bash-stderr",
    "bash-exit-code",
    "task-notification",
    "available-deferred-tools",
    "ide_diagnostics",
    "ide_opened_file",
    "ide_selection",
    "new-diagnostics",
    "browser_instruction",
    "mcp-resource",
    "mcp-resource-update",
    "mcp-polling-update",
    "user-memory-input",
    "user-prompt-submit-hook",
    "session-start-hook",
    "agent-message",
    "cross-session-message",
    "teammate-message",
    "fork-boilerplate",
    "remote-review",
    "remote-review-progress",
    "persisted-output",
    # Codex
    "environment_context",
    "environments_instructions",
    "user_instructions",
    "user_action",
    "user_shell_command",
    "user_verification_notice",
    "skill",
    "turn_aborted",
    "subagent_notification",
    "agent_message_board_notification",
    "permissions instructions",
    "app-context",
    "collaboration_mode",
    "multi_agent_mode",
    "multi_agent_role",
    "persistent_mode",
    "apps_instructions",
    "managed_developer_instructions",
    "model_instructions",
    "plugins_instructions",
    "skills_instructions",
    "recommended_plugins",
    "codex_delegation",
    "codex_internal_context",
    "content_filter_guidance",
    "context_window_guidance",
    "context_window_reminder",
    "current_time_reminder",
    "hook_prompt",
    "image_resize_notice",
    "model_switch",
    "realtime_conversation",
    "realtime_delegation",
    "rollout_budget",
    "side_conversation",
    # OpenCode
    "available_references",
    "available_skills",
    "conversation-checkpoint",
    "mcp_instructions",
    "recent-context",
    "skill_content",
    "system-update",
    # Cline, Roo Code, Kilo Code
    "environment_details",
    "command-instructions",
    "discord_message_context",
    "explicit_instructions",
    "file_content",
    "folder_content",
    "hook_context",
    "mode_notice",
    "terminal_output",
    "url_content",
    "workspace_diagnostics",
    # Copilot
    "conversation-summary",
    "editorContext",
    "environment_info",
    "reminderInstructions",
    "repoContext",
    "toolReferences",
    "workspace_info",
    # Cursor
    "additional_data",
    "attached_files",
    "git_status",
    "open_and_recently_viewed_files",
    "project_layout",
    "system_reminder",
    "user_info",
    # Qwen Code, Gemini CLI
    "session_context",
    "state_snapshot",
)
"""Elements that a harness adds to a user turn: they go with all they hold."""

PLAIN_TAGS = frozenset(
    {
        *("channel", "session", "terminal", "tick", "transcript", "ultraplan"),  # Claude Code
        *("context_window", "heartbeat", "next_prompt_suggestion"),  # Codex
        *("conversation", "prior-summary"),  # OpenCode
        *("attachment", "attachments", "context", "instructions"),  # Copilot
        *("rules", "cursor_commands"),  # Cursor
    }
)
"""Elements of a harness with names that people use too: they go only where a part is nothing else."""

MARKUP = frozenset(
    {
        *("html", "head", "body", "title", "meta", "link", "style", "script", "template", "iframe", "canvas"),
        *("main", "header", "footer", "nav", "section", "article", "aside", "dialog", "div", "span", "pre", "code"),
        *("h1", "h2", "h3", "p", "a", "b", "i", "img", "video", "hr", "ul", "ol", "li"),
        *("table", "thead", "tbody", "tr", "th", "td", "form", "label", "input", "button", "select", "textarea"),
        *("svg", "g", "path"),
    }
)
"""Elements of HTML and SVG that people paste: no harness is known to use one."""

_TAG = re.compile(
    rf"""
    <(?:
        (?P<dropped>{"|".join(map(re.escape, DROPPED_TAGS))})(?:\s[^<>]*+|/)?>
      | (?P<kept>{"|".join(KEPT_TAGS)})(?:\s[^<>]*+)?>
      | /(?P<closed>{"|".join(KEPT_TAGS)})>
    )
    """,
    re.VERBOSE,
)

_ELEMENT = re.compile(r"\s*+<(?P<name>[A-Za-z][\w-]*+)(?:\s[^<>]*+|/)?>")

_REQUEST_HEADING = re.compile(r"^## My request for Codex:", re.MULTILINE)
"""Where the person's words begin after what Codex's IDE extension tells of the editor."""

_PROJECT_INSTRUCTIONS = re.compile(
    r"^# AGENTS\.md instructions[^\n]*+\s*+<INSTRUCTIONS>(?s:.*?)(?:</INSTRUCTIONS>|\Z)", re.MULTILINE
)

_NOTICE = re.compile(r"^[ \t]*+\[Request interrupted by user[^\]\n]*\]", re.MULTILINE)

_HARNESS_PART = re.compile(
    r"""\s*+(?:
        # Claude Code
        This\ session\ is\ being\ continued\ from\ a\ previous\ conversation
      | Caveat:\ The\ messages\ below\ were\ generated\ by\ the\ user
      | Base\ directory\ for\ this\ skill:
      | (?:(?:Subagent)?Stop|TeammateIdle|Task(?:Created|Completed))\ hook\ feedback:
        # Qwen Code, Gemini CLI
      | This\ is\ the\ (?:Qwen\ Code|Gemini\ CLI)\.\ We\ are\ setting\ up\ the\ context
        # OpenCode
      | (?:Summarize\ the\ task\ tool\ output\ above\ and\ continue\ with\ your\ task\.
          |The\ following\ tool\ was\ executed\ by\ the\ user
          |(?s:.{0,1000}\n)?Continue\ if\ you\ have\ next\ steps,\ or\ stop\ and\ ask\ for\ clarification\ [^\n]*
        )\s*\Z
    )""",
    re.VERBOSE,
)
"""How a part opens, or all it says, that a harness wrote from start to end."""

_HARNESS_TAILS = ("To suggest changes to a file you MUST ", "# *SEARCH/REPLACE block* Rules:")
"""How the line begins where the format rules start that Aider glues to the end of a prompt."""

_TOOL_RESULT = re.compile(r"\s*+\[[a-z]+(?:_[a-z]+)+(?: for '(?s:.*?)')?\] Result:")
"""How a tool result opens that Cline and Roo Code write as user text."""


def is_tool_result(text: str) -> bool:
    """Whether a user turn's text is the result of a tool, as some clients write it."""
    return _TOOL_RESULT.match(text) is not None


MAX_LOOKED_INTO = 1_000_000
"""Characters of a part above which no signs of a harness are looked for: somebody pasted a file."""


def strip_wrappers(text: str) -> str:
    """What is left of one text part of a user turn without the text that a harness added.

    A tag counts only where it opens the part, a line, or follows the last dropped element at once, since people write
    such tags themselves; an envelope's also where it follows any tag at once. An unclosed element reaches to the end of
    the part. Time is linear in the length of `text`, and next to nothing for text without a sign of a harness.
    """
    return _strip(text)[0]


def _remembered[*A, T](function: Callable[[str, *A], T]) -> Callable[[str, *A], T]:
    """The function of a text, whose last results are remembered. Those of long texts, which would be kept, are not."""
    remembered: Callable[[str, *A], T] = lru_cache(maxsize=4)(function)  # type: ignore[assignment]

    @wraps(function)
    def asked(text: str, *args: *A) -> T:
        return (remembered if len(text) <= MAX_LOOKED_INTO else function)(text, *args)

    return asked


@_remembered
def _strip(text: str) -> tuple[str, bool]:
    """What is left of a part, and whether the harness itself marked some of it as a person's."""
    if len(text) > MAX_LOOKED_INTO:
        return text, False
    if _HARNESS_PART.match(text):
        return "", False
    as_sent = text
    text, marked = _after_heading(text)
    text = _without_passages(text)
    inside_only = _TOOL_RESULT.match(text) is not None
    opens_with_element = text.lstrip().startswith("<")
    pieces: list[str] = []
    opened: set[str] = set()
    position = looked_at = 0

    def keep_until(end: int) -> None:
        if opened or not inside_only:
            pieces.append(text[position:end])

    for tag in _TAG.finditer(text):
        start = tag.start()
        between = text[looked_at:start]
        indent = between[between.rfind("\n") + 1 :]
        opens_line = not indent.strip(" \t") and (looked_at == 0 or len(indent) < len(between))
        looked_at = tag.end()
        if start < position:
            continue  # inside a dropped element
        if closed := tag["closed"]:
            if closed not in opened:
                continue
            keep_until(start)
            opened.remove(closed)
            position = tag.end()
            continue
        is_envelope = opens_with_element and tag["kept"] in ENVELOPES
        if opens_line or start == position or (is_envelope and text[start - 1] == ">"):
            keep_until(start - len(indent) if opens_line else start)
            position = tag.end()
            if kept := tag["kept"]:
                marked = True
                if is_envelope and not opened and not inside_only:
                    inside_only = True
                    pieces.clear()
                opened.add(kept)
            elif not tag[0].endswith("/>"):
                closing = f"</{tag['dropped']}>"
                end = text.find(closing, position)
                position = len(text) if end < 0 else end + len(closing)
    keep_until(len(text))
    left = "".join(pieces)
    # the space around what was dropped is the harness's; without any, it is the person's
    return (left if left == as_sent else left.strip()), marked


def _after_heading(text: str) -> tuple[str, bool]:
    """What follows the heading of a person's request, and whether there is one; a quoted heading is not meant."""
    if "## My request for Codex:" not in text or not text.lstrip().startswith(("#", "<")):
        return text, False
    heading = _REQUEST_HEADING.search(text)
    return (text[heading.end() :], True) if heading else (text, False)


def _without_passages(text: str) -> str:
    """A part without what a harness adds to it as plain text. Looking for a word first is what makes it cheap."""
    if "# AGENTS.md instructions" in text:
        text = _PROJECT_INSTRUCTIONS.sub("", text)
    if "[Request interrupted by user" in text:
        text = _NOTICE.sub("", text)
    for opening in _HARNESS_TAILS:
        start = 0 if text.startswith(opening) else text.find(f"\n{opening}")
        if start >= 0:
            text = text[:start]
    return text


def real_prompt(turns: Iterable[list[str]], *, known_client: bool = False) -> str | None:
    """What a person says in the first of `turns` with words of theirs: cleaned, its parts joined by newlines.

    None if there is none. `turns` are user turns, from the last to the first where the last thing said is wanted, each
    the list of its text parts as sent. `known_client`: a harness sent them, so that a part that is nothing but one
    lower-case element is the harness's, though it is in no list.
    """
    for turn in turns:
        if prompt := "\n".join(_own_words(turn, known_client)):
            return prompt
    return None


def for_known_client(facts: RequestFacts) -> RequestFacts:
    """The facts of a request after it turned out that a known client sent it: with the prompts chosen accordingly."""
    if not any("<" in (prompt or "") for prompt in (facts.user_prompt, facts.first_prompt)):
        return facts  # no element was taken for a prompt
    return replace(
        facts,
        user_prompt=real_prompt(facts.user_turns, known_client=True),
        first_prompt=facts.first_prompt and real_prompt(reversed(facts.user_turns), known_client=True),
    )


def _own_words(turn: list[str], known_client: bool) -> Iterator[str]:
    for previous, part in pairwise(["", *turn]):
        # Cline may send the heading of a tool result as one part and the result itself as the next
        heading = f"{previous}\n" if _TOOL_RESULT.fullmatch(previous.rstrip()) else ""
        if (words := _said(heading + part, known_client)) is not None:
            yield words


@_remembered
def _said(part: str, known_client: bool) -> str | None:
    """What a person says in a part, cleaned; None if it is all a harness's."""
    words, marked = _strip(part)
    if not words or words.isspace():
        return None
    is_said = marked or not (_order(words.strip()) or _is_elements(words, known_client))
    return clean(words) if is_said else None


def _is_elements(text: str, known_client: bool) -> bool:
    """Whether a part is nothing but elements of harnesses, each opened and closed."""
    position = 0
    while element := _ELEMENT.match(text, position):
        name, position = element["name"], element.end()
        if not (name in PLAIN_TAGS or (known_client and _may_be_a_harness(name))):
            return False
        if not element[0].endswith("/>"):
            closing = f"</{name}>"
            end = text.find(closing, position)
            if end < 0:
                return False
            position = end + len(closing)
    return not text[position:].strip()


def _may_be_a_harness(name: str) -> bool:
    """Whether an element in no list is a harness's where one is known to write: not what holds a person's words."""
    return name.islower() and name not in MARKUP and name not in KEPT_TAGS and not name.startswith("user")


_PROBES = ("quota", "test")

_ORDERS: dict[SideRequest, re.Pattern[str]] = {
    # Codex wraps it in an element
    "suggestion": re.compile(r"\[SUGGESTION MODE:|<next_prompt_suggestion>"),
    "compaction": re.compile(
        r"You are performing a CONTEXT CHECKPOINT COMPACTION"
        r"|(?s:.*\n)?Your task is to create a detailed summary of [^\n]*\bconversation\b"
        r"|(?:Here is the conversation so far:\s*)?<conversation>(?s:.*)\banchored summary\b"
        r"|(?:Create a new|Update the) anchored summary\b"
    ),
    "memory": re.compile(r"You are now acting as the memory extraction subagent\b"),
}
"""How a user turn opens in which a harness tells the model to do something for its own sake, by what it is for."""

_COMPACTION_OPENING = "You are a context summarization agent"
_COMPACTION_SYSTEM = re.compile(r"\btasked with summarizing conversations\b")
_TITLE_SYSTEM = re.compile(r"^You are a title generator\b|\bsentence-case title\b", re.MULTILINE)


def _order(text: str) -> SideRequest | None:
    """What for a user turn is that tells the model to do something for a harness's own sake; None for any other."""
    return _order_that_opens(text) if len(text) <= MAX_LOOKED_INTO else None


@_remembered
def _order_that_opens(text: str) -> SideRequest | None:
    return next((name for name, opening in _ORDERS.items() if opening.match(text)), None)


def side_request(
    system: str | None, last_user_text: str | None, max_tokens: int | None, n_tools: int
) -> SideRequest | None:
    """What a request is for if it is no turn of a person (`terms.SideRequest`); None for a real turn.

    `last_user_text` is the text of the last user turn as sent, `n_tools` how many tools are offered.
    """
    system = system or ""
    text = strip_wrappers(last_user_text or "").strip()
    order = _order(text)
    # People write words like these too, but no coding agent leaves the tools out of a person's turn
    toolless = n_tools == 0
    is_compaction = system.lstrip().startswith(_COMPACTION_OPENING) or (
        toolless and _COMPACTION_SYSTEM.search(system) is not None
    )
    is_title = toolless and (
        text.startswith("Generate a title for this conversation:")
        or ("<session>" in text and "Write the title" in f"{system}\n{text}")
        or _TITLE_SYSTEM.search(system) is not None
    )
    signs: tuple[tuple[SideRequest, object], ...] = (
        ("warmup", max_tokens == 0 or text == "Warmup"),
        ("quota_probe", max_tokens == 1 and text[:10].lower() in _PROBES),
        *([(order, True)] if order else []),
        ("compaction", is_compaction),
        ("transcript", toolless and text.startswith("<transcript>")),
        ("title", is_title),
    )
    return next((name for name, seen in signs if seen), None)


def is_volatile(text: str) -> bool:
    """Whether a system part is only Claude Code's billing line, which changes with every call."""
    return text.startswith("x-anthropic-billing-header:") and "\n" not in text.strip()


_DATA_URL = re.compile(r"data:([\w.+/-]{0,100})(?:;[\w.+=-]{1,100}){0,4}?;base64,([\w+/=-]+)", re.ASCII)


def clean(text: str) -> str:
    """Text fit for a database and for reading.

    NUL is removed, a lone surrogate becomes U+FFFD (two halves that arrived apart are joined), and the data of a base64
    URL gives way to a note of its type and length.
    """
    # each is looked for first, which costs next to nothing where it is not
    if "\0" in text:
        text = text.replace("\0", "")
    if has_surrogates(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if ";base64," in text:
        text = _DATA_URL.sub(lambda url: f"[{url[1] or 'data'}, {len(url[2])} characters of base64]", text)
    return text


def join_texts(parts: Iterable[str]) -> str | None:
    """The parts that are not empty, cleaned and joined by newlines; None if there are none."""
    return clean("\n".join(filter(None, parts))) or None


def system_prompts(parts: Sequence[str], opening: int) -> tuple[str | None, str | None]:
    """The system prompt of all `parts`, and that of the first `opening`, which stand before the first turn.

    Without what is another with every call (`is_volatile`). Each is None if there is nothing in it.
    """
    kept = [not is_volatile(part) for part in parts]
    whole = join_texts(compress(parts, kept))
    # of most conversations it is the same: then a long text is joined and cleaned once
    return whole, whole if opening == len(parts) else join_texts(compress(parts[:opening], kept))
