"""What may be said of our own failures in a log that anybody may read."""

import traceback
from pathlib import Path


def describe(error: Exception) -> str:
    """An exception of our own: where it happened, not its text, which may quote a prompt. Never raises."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return f"{type(error).__name__}{where}"
