"""What headers show of a client's credential."""

import pytest

from gateway_addon.credentials import credential_kind

TOKEN = "sk-ant-planted-0123456789"


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, "anthropic_key"),
        ({"x-api-key": TOKEN}, "anthropic_key"),
        ({"chatgpt-account-id": "account-0123456", "authorization": f"Bearer {TOKEN}"}, "anthropic_key"),
        ({"authorization": "Bearer planted-0123456789"}, "credential"),
        ({"authorization": "Bearer lm-studio"}, None),
        ({"authorization": "Bearer"}, None),
        ({"x-api-key": ""}, None),
        ({"x-api-key": "{gateway:anthropic}"}, None),
        ({"authorization": "Bearer {gateway:openrouter}"}, None),
        # a redacted file gives the same rows
        ({"authorization": "Bearer [redacted:anthropic_key:0123abcd]"}, "anthropic_key"),
        ({"authorization": "Bearer [redacted:credential:0123abcd]"}, "credential"),
        ({"authorization": "Bearer [redacted:environment:0123abcd]"}, "credential"),
        ({"authorization": "Bearer [redacted:short:0123abcd]"}, None),
        ({"cookie": "session=planted-0123456789", "user-agent": TOKEN}, None),
        ({}, None),
    ],
)
def test_the_kind_of_credential_that_headers_show(headers: dict[str, str], kind: str | None):
    assert credential_kind(headers) == kind
