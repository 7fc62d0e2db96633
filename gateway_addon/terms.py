"""The words that rows, views and reports use, each defined here and nowhere else. NULL, or absence, is "unknown"."""

import re
from collections.abc import Sequence
from typing import Literal, NewType, get_args

type Source = Literal["live", "file", "replay"]
"""Where a call was seen: as it happened, in a flow file, or in a replay of one."""

type Transport = Literal["http", "websocket"]
"""What a call came by: as an HTTP request of its own, or as one turn of a WebSocket."""

type Outcome = Literal[
    "in_flight",
    "complete",
    "stream_error",  # an error inside a 2xx, streamed or not
    "http_error",  # a status of 400 or more from upstream
    "unreadable",  # a 2xx whose body is no answer of its kind
    "client_aborted",
    "upstream_cut",
    "rejected",  # answered by the addon
    "interrupted",  # the proxy ended first
]

type CostSource = Literal["openrouter", "vercel", "reported", "estimate"]

type Reason = Literal["no_usage", "unknown_model", "unknown_host", "cut", "hidden_tokens", "price_table_loading"]
"""Why a cost is NULL."""

type Doubt = Literal[
    "byok_mismatch",
    "byok_no_upstream",
    "byok_unknown",
    "cached_exceeds_input",
    "implausible_cost",
    "invalid_cost",
    "off_estimate",
    "subscription",
    "upstream_unexpected",
    "zero_cost",
]
"""What to think of a cost, or why a reported one was refused."""

Unpriced = NewType("Unpriced", str)
"""`unpriced:WHAT`: the usage names a unit, or the answer a modifier, that no price list of ours has."""

type CostFlag = Reason | Doubt | Unpriced


def why_unknown(flags: Sequence[str]) -> str | None:
    """The flag that tells why a cost is NULL, in words; None if no flag does."""
    known = get_args(Reason.__value__)
    telling = [flag for flag in flags if flag in known or flag.startswith("unpriced:")]
    flag = next(iter((*telling, *flags)), None)
    return flag and re.sub("[_:]", " ", flag)


type Warning = Literal[
    "answer_withheld",  # by the gateway: it had to be changed and could not be read
    "content_dropped",
    "reader_failed",
    "request_missing",
    "request_too_large",
    "request_undecodable",
    "request_unreadable",  # no JSON object
    "response_missing",
    "response_too_large",
    "response_truncated",
    "response_undecodable",
    "secret_masked",
    "usage_ambiguous",
    "usage_implausible",  # a count above any that a call can have is unknown
]
"""What a row could not know, and why; and what was done to its call beside the changes of the gateway."""

type SideRequest = Literal[
    "auxiliary", "compaction", "memory", "quota_probe", "side_reply", "suggestion", "title", "transcript", "warmup"
]
"""What a request is for that is no turn of a person."""

type Executor = Literal["client", "server"]
"""Who runs a tool."""

type Role = Literal["system", "user", "assistant", "tool"]
"""Who speaks in a request: `system` is also the developer, `tool` what a client's tool gave back."""

type Content = Literal["full", "prompts", "none"]
"""What text is stored."""
