"""(being written)"""

NAME = "messages"
SUFFIX = "/messages"
VENDOR = "anthropic"
MODEL_PLACES: tuple[str, ...] = ()
