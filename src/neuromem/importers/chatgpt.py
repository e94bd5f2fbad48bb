"""ChatGPT's data export: `conversations.json`, or `conversations-000.json` and so on.

A conversation is a tree (`mapping`: node id → message, parent, children), because people edit and regenerate; what they
saw last is the path from the root to `current_node`. Only that path is read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from neuromem.importers.items import Draft, Item, Remark, as_dict, as_list, conversation, identifier
from neuromem.importers.reading import Reading, records

_REASONING = frozenset({"thoughts", "reasoning_recap"})
_CONTEXT = frozenset({"user_editable_context", "model_editable_context"})
# Marks for the web page's renderer, in characters for private use: U+E200 kind U+E202 argument … U+E201.
_MARK = re.compile("\ue200(\\w+)((?:\ue202[^\ue200\ue201\ue202]*)*)\ue201")
_CITATION = re.compile(r"【\d+(?::\d+)?†[^】]*】")


def items(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """The turns of every conversation."""
    for number, found in enumerate(records(stream, reading), start=1):
        whole = as_dict(found)
        session_id = identifier(whole.get("conversation_id")) or identifier(whole.get("id"))
        place = f"{reading.name}: conversation {number}"
        if session_id is None or not as_dict(whole.get("mapping")):
            yield Remark("no ChatGPT conversation", place)
            continue
        drafts: list[Draft] = []
        for node_id, message in _path(as_dict(whole["mapping"]), whole.get("current_node")):
            where = f"{place}, message {node_id}"
            if (reason := _left_out(message, tools=reading.tools)) is not None:
                yield Remark(reason, where)
            else:
                drafts.append(_draft(message, node_id, where, whole))
        yield from conversation(session_id, drafts, begun=whole.get("create_time"))


def _path(mapping: Mapping[str, Any], current: Any) -> list[tuple[str, dict[str, Any]]]:
    """(node id, message) from the root to the current node, without the nodes that hold no message."""
    if not isinstance(current, str) or current not in mapping:
        current = _newest_leaf(mapping)
    path: list[tuple[str, dict[str, Any]]] = []
    seen: set[str] = set()
    while isinstance(current, str) and current in mapping and current not in seen:
        seen.add(current)
        node = as_dict(mapping[current])
        if message := as_dict(node.get("message")):
            path.append((current, message))
        current = node.get("parent")
    return path[::-1]


def _newest_leaf(mapping: Mapping[str, Any]) -> str | None:
    def said_at(name: str) -> float:
        time = as_dict(as_dict(mapping[name]).get("message")).get("create_time")
        return time if isinstance(time, int | float) else 0.0

    leaves = [name for name, node in mapping.items() if not as_list(as_dict(node).get("children"))]
    return max(reversed(leaves), key=said_at, default=None)


def _left_out(message: Mapping[str, Any], *, tools: bool) -> str | None:
    """Why the person did not see this message as part of the talk; None if they did."""
    role = as_dict(message.get("author")).get("role")
    metadata, kind = as_dict(message.get("metadata")), as_dict(message.get("content")).get("content_type")
    if role == "system":
        return "system message"
    if kind in _CONTEXT:
        return "custom instructions"
    if metadata.get("is_visually_hidden_from_conversation"):
        return "hidden"
    if kind in _REASONING or message.get("channel") == "analysis":
        return "reasoning"
    if kind == "system_error":
        return "error message"
    called = role == "assistant" and message.get("recipient") not in (None, "", "all", "assistant")
    # What is sent to "bio" is what ChatGPT noted about the person.
    if not tools and (role == "tool" or (called and message.get("recipient") != "bio")):
        return "tool output" if role == "tool" else "call of a tool"
    return None if _text(message).strip() else "empty"


def _draft(message: Mapping[str, Any], node_id: str, place: str, whole: Mapping[str, Any]) -> Draft:
    author = as_dict(message.get("author"))
    metadata = {
        "title": whole.get("title"),
        "model": as_dict(message.get("metadata")).get("model_slug"),
        "tool": message.get("recipient") if message.get("recipient") not in ("all", "assistant") else None,
    }
    return Draft(
        place=place,
        role=author.get("role"),
        content=_text(message),
        timestamp=message.get("create_time"),
        external_id=message.get("id") or node_id,
        speaker=author.get("name"),
        metadata={key: value for key, value in metadata.items() if isinstance(value, str) and value},
    )


def _text(message: Mapping[str, Any]) -> str:
    content = as_dict(message.get("content"))
    texts = [_part(part) for part in as_list(content.get("parts"))]
    for name in ("text", "result"):
        if isinstance(content.get(name), str):
            texts.append(content[name])
    text = "\n".join(text for text in texts if text)
    if content.get("content_type") == "code" and text.strip():
        language = content.get("language")
        text = f"```{language if language not in (None, 'unknown') else ''}\n{text}\n```"
    names = [
        f"[file: {name}]"
        for attachment in as_list(as_dict(message.get("metadata")).get("attachments"))
        if isinstance(name := as_dict(attachment).get("name"), str)
    ]
    return "\n".join([*([_CITATION.sub("", _MARK.sub(_unmarked, text))] if text else []), *names])


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    part = as_dict(part)
    if part.get("content_type") == "image_asset_pointer":
        return "[image]"
    return part["text"] if isinstance(part.get("text"), str) else ""


def _unmarked(mark: re.Match[str]) -> str:
    """The name an entity mark shows; nothing for citations and the like."""
    if mark[1] != "entity":
        return ""
    try:
        return str(json.loads(mark[2].lstrip("\ue202"))[1])
    except (ValueError, LookupError, TypeError):
        return ""
