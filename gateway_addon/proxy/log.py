"""What may be said of our own failures in a log that anybody may read."""

import traceback
from pathlib import Path


def describe(error: Exception) -> str:
    """An exception of our own: where it happened, not its text, which may quote a prompt."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
