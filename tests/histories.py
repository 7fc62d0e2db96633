"""One conversation with a tool, a picture and reasoning, in each kind's words."""

from typing import Any

Json = dict[str, Any]

PICTURE = "iVBORw0KGgo="
URL = f"data:image/png;base64,{PICTURE}"

SAME: dict[str, Json] = {
    "messages": {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "c-1", "name": "bash", "input": {"cmd": "ls"}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c-1", "content": "a.txt"}]},
            {"role": "assistant", "content": "One file."},
            {"role": "user", "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
            ]},
        ],
    },
    "chat_completions": {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Let me look.", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "c-1", "type": "function", "function": {"name": "bash", "arguments": '{"cmd":"ls"}'}}
            ]},
            {"role": "tool", "tool_call_id": "c-1", "content": "a.txt"},
            {"role": "assistant", "content": "One file."},
            {"role": "user", "content": [
                {"type": "text", "text": "And this?"}, {"type": "image_url", "image_url": {"url": URL}}
            ]},
        ],
    },
    "responses": {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": "Why?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
            {"type": "function_call", "call_id": "c-1", "name": "bash", "arguments": '{"cmd":"ls"}'},
            {"type": "function_call_output", "call_id": "c-1", "output": "a.txt"},
            {"role": "assistant", "content": "One file."},
            {"role": "user", "content": [
                {"type": "input_text", "text": "And this?"}, {"type": "input_image", "image_url": URL}
            ]},
        ],
    },
}  # fmt: skip
