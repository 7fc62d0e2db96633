"""Answers for the dialects' tests."""

from typing import Any

from hypothesis import strategies as st

from gateway_addon.api.base import Answer
from gateway_addon.wire import jsontext

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=8)
    | st.sampled_from(["gen_1", "0.01", "byok", "system"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)


def reported(usage: str, **more: Any) -> Answer:
    """An answer that reported this usage object (JSON text, so that numbers are exact)."""
    return Answer(reported_usage=jsontext.parse_object(usage), **more)
