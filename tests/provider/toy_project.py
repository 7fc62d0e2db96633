"""The project that the agent loop works on: its files, and the tools that act on a copy of them."""

from collections.abc import Callable

FIX = {
    "old": "    for rank, (name, _) in enumerate(ordered, start=1):\n        result[name] = rank\n",
    "new": "    for name, points in ordered:\n        result[name] = 1 + sum(other > points for _, other in ordered)\n",
}
FILES = {
    "README.md": "# scores\n\nKeeps the points of a quiz night and ranks the players. Players who tie share a rank.\n",
    "scores/ranking.py": (
        '"""Ranks for a quiz night."""\n\n\n'
        "def ranks(points: dict[str, int]) -> dict[str, int]:\n"
        "    ordered = sorted(points.items(), key=lambda item: -item[1])\n"
        "    result = {}\n" + FIX["old"] + "    return result\n"
    ),
    "tests/test_ranking.py": (
        "from scores.ranking import ranks\n\n\n"
        "def test_a_tie_shares_the_better_rank():\n"
        '    assert ranks({"Ada": 7, "Bo": 9, "Cy": 9}) == {"Bo": 1, "Cy": 1, "Ada": 3}\n'
    ),
}

DESCRIPTIONS = {
    "list_files": ("List the files below a folder.", ("path",)),
    "read_file": ("Return the text of a file.", ("path",)),
    "edit_file": ("Replace a piece of text in a file.", ("path", "old", "new")),
    "run_tests": ("Run the project's tests.", ()),
}
"""Name of each tool, what it does, and its arguments, which are all required strings."""


def schema(name: str) -> dict[str, object]:
    """The JSON schema of a tool's arguments."""
    _, arguments = DESCRIPTIONS[name]
    properties = {argument: {"type": "string"} for argument in arguments}
    return {"type": "object", "properties": properties, "required": list(arguments)}


class ToyProject:
    """A fresh copy of the files, and the tools as an agent runs them."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self._tools: dict[str, Callable[..., str]] = {name: getattr(self, name) for name in DESCRIPTIONS}

    def run(self, name: str, arguments: dict[str, str]) -> str:
        """The result of a tool as text. Raises KeyError for a tool or file that is not there."""
        return self._tools[name](**arguments)

    def list_files(self, path: str) -> str:
        return "\n".join(sorted(self.files))

    def read_file(self, path: str) -> str:
        return self.files[path]

    def edit_file(self, path: str, old: str, new: str) -> str:
        self.files[path] = self.files[path].replace(old, new)
        return f"{path}: 1 replacement"

    def run_tests(self) -> str:
        if FIX["new"] in self.files["scores/ranking.py"]:
            return "1 passed"
        return "1 failed\ntest_a_tie_shares_the_better_rank: expected rank 1 for Cy, got 2"
