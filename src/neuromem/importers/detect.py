"""Which format a file has, told by its first record."""

import io
from dataclasses import dataclass
from typing import Any

import ijson  # pyright: ignore[reportMissingTypeStubs]

from neuromem.errors import InvalidInputError
from neuromem.importers.reading import Root

FORMATS = ("jsonl", "chatgpt", "claude", "mem0", "locomo")
_LISTS = {"results": "mem0", "memories": "mem0", "conversations": None}
"""Objects that hold the records under a name, and whose format that name is."""


@dataclass(frozen=True, slots=True)
class Detected:
    """`format`, and where the records lie: see `Reading`. `owned`: whether they may say whose they are."""

    format: str
    root: Root
    prefix: str
    owned: bool


def detect(head: bytes, name: str, wanted: str | None = None) -> Detected:
    """The format of a file that begins with `head`; `wanted` overrides what it looks like.

    Raises InvalidInputError when it looks like none of them.
    """
    begin = head.lstrip()
    if not begin:
        raise InvalidInputError(f"{name} is empty")
    if begin[:1] not in b"[{":
        raise InvalidInputError(f"{name} is no JSON: it begins with {begin[:20]!r}; accepted formats: {_listed()}")
    keys, listed = _first_keys(begin)
    seen = _format(keys) or (_LISTS.get(listed) if listed else None)
    chosen = wanted or seen
    if chosen is None:
        what = f"its first record has {', '.join(sorted(keys)[:8])}" if keys else "it holds no record"
        raise InvalidInputError(f"{name} has no known format: {what}; accepted formats: {_listed()}")
    owned = chosen in ("mem0", "locomo") or bool(keys & {"user", "user_id"})
    if begin[:1] == b"[":
        return Detected(chosen, "array", "item", owned)
    if listed is not None:
        return Detected(chosen, "array", f"{listed}.item", owned)
    return Detected(chosen, "lines" if chosen == "jsonl" else "object", "", owned)


def _first_keys(head: bytes) -> tuple[set[str], str | None]:
    """The keys of the first record, and the name of the list it lies in where the file is an object of such."""
    keys: set[str] = set()
    root_keys: set[str] = set()
    listed: str | None = None
    record = "item" if head[:1] == b"[" else ""
    events: Any = ijson.parse(io.BytesIO(head), buf_size=512)
    try:
        for prefix, event, value in events:
            if event == "start_array" and prefix in _LISTS:
                listed, record = prefix, f"{prefix}.item"
                root_keys, keys = keys, set()
            elif event == "map_key" and prefix == record:
                keys.add(value)
            elif (event, prefix) in (("end_map", record), ("end_array", listed)):
                break
    except ijson.JSONError:
        pass  # the head ends somewhere, or is broken there: what stood before is enough, or nothing is
    if listed is not None and _format(root_keys) is not None:
        return root_keys, None
    return keys, listed


def _format(keys: set[str]) -> str | None:
    if "mapping" in keys:
        return "chatgpt"
    if "chat_messages" in keys:
        return "claude"
    if "qa" in keys or "speaker_a" in keys or {"conversation", "sample_id"} <= keys:
        return "locomo"
    if "memory" in keys or {"content", "state", "app_id"} <= keys:
        return "mem0"
    if keys & {"content", "text", "message"}:
        return "jsonl"
    return None


def _listed() -> str:
    return ", ".join(FORMATS)
