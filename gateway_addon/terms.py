"""The words that rows, views and reports use, each defined here and nowhere else. NULL, or absence, is "unknown"."""

from typing import Literal, NewType

type Source = Literal["live", "file", "replay"]
"""Where a call was seen: as it happened, in a flow file, or in a replay of one."""

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

type Doubt = Literal[
    # why a cost is NULL
    "no_usage",
    "unknown_model",
    "unknown_host",
    "cut",
    "hidden_tokens",
    "price_table_loading",
    # doubts
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
"""Why a cost is NULL, or what to think of it."""

Unpriced = NewType("Unpriced", str)
"""`unpriced:WHAT`: the usage names a unit, or the answer a modifier, that no price list of ours has."""

type CostFlag = Doubt | Unpriced

type Warning = Literal[
    "answer_withheld",  # by the gateway: it had to be changed and could not be read
    "content_dropped",
    "reader_failed",
    "request_missing",
    "request_undecodable",
    "response_missing",
    "response_too_large",
    "response_truncated",
    "response_undecodable",
    "secret_masked",
    "usage_ambiguous",
]
"""What a row could not know, and why; and what was done to its call beside the changes of the gateway."""

type SideRequest = Literal[
    "auxiliary", "compaction", "memory", "quota_probe", "side_reply", "suggestion", "title", "transcript", "warmup"
]
"""What a request is for that is no turn of a person."""

type Executor = Literal["client", "server"]
"""Who runs a tool."""

type Content = Literal["full", "prompts", "none"]
"""What text is stored."""
