"""Error objects of the OpenAI-like vendors. Messages has one shape for all, in its own module."""

from collections.abc import Callable

from tests.provider.answer import Error, Json


def openai(error: Error) -> Json:
    return {"error": {"message": error.message, "type": error.type, "param": None, "code": error.type}}


def openrouter(error: Error) -> Json:
    metadata = {"provider_name": "Toy Inference", "raw": f'{{"detail":"{error.type}"}}'}
    return {"error": {"code": error.status, "message": error.message, "metadata": metadata}, "user_id": "user_toy"}


def vercel(error: Error) -> Json:
    details = {"statusCode": error.status, "type": error.type}
    return {
        "error": {"message": error.message, "type": error.type, "param": details},
        "generationId": "gen_toy",
        "providerMetadata": {"gateway": {"routing": {"finalProvider": "toy"}, "cost": "0"}},
    }


def vllm(error: Error) -> Json:
    return {"object": "error", "message": error.message, "type": error.type, "code": error.status}


def fastapi(error: Error) -> Json:
    return {"detail": error.message}


SHAPES: dict[str, Callable[[Error], Json]] = {
    shape.__name__: shape for shape in (openai, openrouter, vercel, vllm, fastapi)
}
