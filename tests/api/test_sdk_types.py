"""What values the generator makes of type definitions."""

from typing import Any, Literal, Required, TypedDict

import pytest
from pydantic import BaseModel

from tests.api.sdk_types import fields, instance, instances, members


class Text(TypedDict, total=False):
    type: Required[Literal["text"]]
    text: Required[str]
    note: str


class Call(BaseModel):
    name: str
    arguments: dict[str, object] | None = None
    inner: "Call | None" = None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (str, ["at"]),
        (float, [1.5]),
        (Literal["a", "b"], ["a", "b"]),
        (bool | None, [True, None]),
        (list[int | str], [[1], ["at.0"]]),
        (bytes | int, [1]),
        (
            Text,
            [
                {"type": "text", "text": "at.text", "note": "at.note"},
                {"type": "text", "text": "at.text"},
            ],
        ),
        (
            Call,
            [
                {"name": "at.name", "arguments": {"key": "at.arguments.key"}, "inner": None},
                {"name": "at.name"},
                {"name": "at.name", "arguments": None, "inner": None},
            ],
        ),
    ],
)
def test_every_alternative_is_in_some_instance(kind: Any, expected: list[Any]):
    assert list(instances(kind, "at")) == expected
    assert instance(kind, "at") == expected[0]


def test_the_members_of_a_union_have_names():
    assert members(Text | list[Call | Text] | Literal["auto"]) == {
        "Text": Text,
        "[Call]": list[Call],
        "[Text]": list[Text],
        "typing.Literal['auto']": Literal["auto"],
    }


def test_the_fields_of_an_object():
    assert set(fields(Text)) == {"type", "text", "note"}
    assert fields(Call)["name"] is str
    assert fields(str) == {}
