"""What every kind refuses before sending, and the two shapes of the addon's own error replies."""

from gateway_addon.api.base import Json, Refusal

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    426: "invalid_request_error",
    500: "api_error",
    502: "api_error",
}
OPENAI_TYPES = ANTHROPIC_TYPES | {404: "invalid_request_error", 500: "server_error", 502: "server_error"}
"""The error types of the two vendors for the statuses that the addon answers with."""

PARAMS = {"model_not_found": "model"}
"""The request field an OpenAI `code` blames; a code that is not here blames none."""


def openai_error_body(refusal: Refusal) -> Json:
    """The reply to a Chat Completions or Responses call: `{"error": {message, type, param, code}}`."""
    return {
        "error": {
            "message": refusal.message,
            "type": OPENAI_TYPES[refusal.status],
            "param": PARAMS.get(refusal.code),
            "code": refusal.code,
        }
    }


def anthropic_error_body(refusal: Refusal) -> Json:
    """The reply to a Messages call: `{"type": "error", "error": {type, message}}`."""
    return {"type": "error", "error": {"type": ANTHROPIC_TYPES[refusal.status], "message": refusal.message}}


def openai_error_event(refusal: Refusal) -> tuple[str, Json]:
    """The same in a Chat Completions stream: an event without a name."""
    return "", openai_error_body(refusal)


def anthropic_error_event(refusal: Refusal) -> tuple[str, Json]:
    """The same in a Messages stream."""
    return "error", anthropic_error_body(refusal)


def responses_error_event(refusal: Refusal) -> tuple[str, Json]:
    """The same in a Responses stream, where an error event is flat."""
    error = openai_error_body(refusal)["error"]
    return "error", {"type": "error", "code": error["code"], "message": error["message"], "param": error["param"]}


def check_object(body: object) -> Refusal | None:
    """Refuse a request body that is no JSON object (None stands for one that could not be parsed)."""
    if isinstance(body, dict):
        return None
    return Refusal(400, "The request body must be a JSON object.", "invalid_body")


def check_model(body: Json) -> Refusal | None:
    """Refuse a request without a model's name: there is nothing to route it by."""
    model = body.get("model", "")
    if not isinstance(model, str):
        return Refusal(400, "`model` must be a string.", "invalid_body")
    if not model.strip():
        return Refusal(404, "The request names no model.", "model_not_found")
    return None
