"""Header fields with one meaning for whoever reads them, live and from a file."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import overload


class Headers(Mapping[str, str]):
    """The fields of a head, in their order; names in lower case.

    As a mapping it gives the *first* value of each name, which is what identifies somebody or something: a proxy on the
    way may append a second, and no client sends two on purpose. A field that is a list may be sent in several lines
    that mean one (RFC 9110, section 5.3): its readers ask for `joined`.

    `fields` are names, in any case, with their values. Takes time linear in their number.
    """

    __slots__ = ("_values",)

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in fields.items() if isinstance(fields, Mapping) else fields:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __contains__(self, name: object) -> bool:
        # `Mapping` would raise and catch an exception for each of the many names that are looked for in vain
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get[T](self, name: str, default: T) -> str | T: ...
    def get[T](self, name: str, default: T | None = None) -> str | T | None:
        """The first value of a name; `default` if it is not there."""
        values = self._values.get(name)
        return values[0] if values else default

    def __repr__(self) -> str:
        # values may be credentials
        return f"Headers({list(self._values)})"

    def without(self, names: Collection[str]) -> "Headers":
        """The same, but for the fields of these names."""
        return Headers((name, value) for name, values in self._values.items() if name not in names for value in values)

    def joined(self, name: str) -> str:
        """All values of a name with ", " between them; "" if it is not there."""
        return ", ".join(self._values.get(name, ()))


def media_type(headers: Mapping[str, str]) -> str:
    """The `content-type` in lower case, without its parameters; "" if there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()
