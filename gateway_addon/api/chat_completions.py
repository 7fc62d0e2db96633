"""(being written)"""

NAME = "chat_completions"
SUFFIX = "/chat/completions"
VENDOR = "openai"
MODEL_PLACES: tuple[str, ...] = ()
