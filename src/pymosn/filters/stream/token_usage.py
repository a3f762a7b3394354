"""How many tokens a model's message used: its own count, else an estimate from the text in it.

Understood are OpenAI's chat completions, completions, embeddings and responses, Anthropic's messages, and whatever else has
a `usage` object in the same positions. A model's text cannot pass for its usage, which is never looked for within text.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

#: The highest number of tokens that is believed.
MOST: Final = 1_000_000_000
_NUMBER: Final = re.compile(r"\s*[0-9]{1,10}(\.[0-9]*)?\s*")
#: Members of a message that hold its `usage`, besides the message itself.
_HOLDERS: Final = ("message", "response", "x_groq")
#: Members without generated text. All others count, so that no new kind of text is missed.
_NO_TEXT: Final = frozenset(
    (
        *(
            "id",
            "type",
            "role",
            "object",
            "model",
            "created",
            "created_at",
            "index",
            "usage",
            "error",
            "status",
            "finish_reason",
        ),
        *("stop_reason", "stop_sequence", "system_fingerprint", "service_tier", "call_id", "item_id", "tool_call_id"),
        *("logprobs", "top_logprobs", "prompt_logprobs", "token_ids", "signature", "encrypted_content", "obfuscation"),
        *("embedding", "data", "b64_json", "url", "file_id"),
    )
)
#: Except for the list of results, whose key is also used for base64.
_LISTS: Final = ("data",)


def number(value: object) -> int | None:
    """A number of tokens: an integer, rounded up, also as text; None for anything else, negative or not believable."""
    if isinstance(value, str) and _NUMBER.fullmatch(value) is not None:
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return math.ceil(value) if 0 <= value <= MOST else None


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


class Usage:
    """The highest numbers of tokens that a message, or the events of a stream, have named; 0 if none."""

    def __init__(self) -> None:
        self.input = 0
        self.output = 0
        self.total = 0

    def read(self, message: object) -> None:
        """Reads the `usage` of a message or an event."""
        for holder in (message, *(_member(message, name) for name in _HOLDERS)):
            usage = _member(holder, "usage")
            if isinstance(usage, dict):
                self._read(usage)

    def _read(self, usage: dict[str, Any]) -> None:
        def largest(*names: str) -> int:
            return max(number(usage.get(name)) or 0 for name in names)

        # Anthropic's `input_tokens` does not include those that a cache has served or kept.
        cached = largest("cache_creation_input_tokens") + largest("cache_read_input_tokens")
        self.input = max(self.input, largest("prompt_tokens"), largest("input_tokens") + cached)
        self.output = max(self.output, largest("completion_tokens", "output_tokens"))
        self.total = max(self.total, largest("total_tokens"), self.input + self.output)


def text_size(message: object) -> int:
    """Bytes (UTF-8) of the generated text in a message or an event."""
    kind = _member(message, "type")
    if isinstance(kind, str) and kind.startswith("response.") and not kind.endswith(".delta"):
        return 0  # it repeats what the deltas had
    size = 0
    waiting = [message]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += [
                item for name, item in value.items() if name not in _NO_TEXT or (name in _LISTS and isinstance(item, list))
            ]
    return size
