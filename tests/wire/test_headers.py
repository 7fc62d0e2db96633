"""One meaning of a header: the first value identifies, a list is joined."""

from gateway_addon.wire.headers import Headers, media_type

TWICE = Headers([("X-Session-Id", "a"), ("anthropic-beta", "one"), ("x-session-id", "b"), ("Anthropic-Beta", "two")])


def test_as_a_mapping_it_gives_the_first_value():
    assert TWICE["x-session-id"] == "a"
    assert dict(TWICE) == {"x-session-id": "a", "anthropic-beta": "one"}


def test_a_list_is_joined():
    assert TWICE.joined("anthropic-beta") == "one, two"
    assert TWICE.joined("nothing") == ""


def test_no_value_shows():
    assert "one" not in repr(TWICE)


def test_media_type():
    assert media_type(Headers({"Content-Type": " Text/Event-Stream ; charset=utf-8"})) == "text/event-stream"
    assert media_type(Headers()) == ""
