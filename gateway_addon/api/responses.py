"""(being written)"""

NAME = "responses"
SUFFIX = "/responses"
VENDOR = "openai"
MODEL_PLACES: tuple[str, ...] = ()
