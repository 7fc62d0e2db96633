"""The names of everything that is sent: OpenTelemetry's for generative AI where it has one, else `gateway_addon.*`.

The conventions are of https://github.com/open-telemetry/semantic-conventions-genai, which still call themselves
"Development": should a name change, it changes here.
"""

OPERATION = "gen_ai.operation.name"
CHAT, EXECUTE_TOOL = "chat", "execute_tool"
"""Operations; a span is named by its operation and the model or tool."""

PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
PREVIOUS_RESPONSE = "gen_ai.request.previous_response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
"""In seconds."""
ERROR_TYPE = "error.type"
OTHER_ERROR = "_OTHER"
"""An error of which no more is known."""

TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_TYPE = "gen_ai.tool.type"
FUNCTION = "function"

SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
"""Text: sent only where it is asked for."""

OF_COLUMN = {
    "gen_ai.request.stream": "streamed",
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.response.id": "response_id",
    "gen_ai.response.model": "response_model",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.usage.cache_write.input_tokens": "cache_write_tokens",
    # the same as it was called before, which backends go by
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "gen_ai.agent.id": "agent_id",
    "http.response.status_code": "http_status",
    "server.address": "upstream_host",
}
"""Attributes that are a column of `requests`."""

OWN = "gateway_addon."

OWN_COLUMNS = (
    "api_kind",
    "outcome",
    "source",
    "request_model",
    "cost_microdollars",
    "cost_source",
    "cost_flags",
    "charged_microdollars",
    "is_byok",
    "usage_is_lower_bound",
    "inference_provider",
    "service_tier",
    "provider_request_id",
    "client",
    "client_version",
    "parent_agent_id",
    "side_request",
    "finish_detail",
    "error_status",
    "warnings",
    "time_to_first_token_ms",
    "request_bytes",
    "response_bytes",
)
"""Columns of `requests` that are sent as `gateway_addon.COLUMN`."""

REQUEST_ID = f"{OWN}request_id"
"""The row's `id`; of a tool, of the call that asked for it."""
BREAK_TOKENS = f"{OWN}cache_break.rewritten_tokens"
BREAK_COST = f"{OWN}cache_break.cost_microdollars"

BOOLEANS = frozenset({"streamed", "is_byok", "usage_is_lower_bound"})
"""Columns that are 0 or 1 in a row."""
