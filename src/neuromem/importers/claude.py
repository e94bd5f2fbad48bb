"""Claude's data export: `conversations.json` with `chat_messages`.

Edited and regenerated messages stay in the list as branches; what the person saw last is the path to the current leaf.
Older exports name no parents: there the list is the conversation.
"""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from neuromem.importers.items import Draft, Item, Remark, as_dict, as_list, compact, conversation, identifier
from neuromem.importers.reading import Reading, records

_ROLES = {"human": "user"}
_TOOL_BLOCKS = frozenset({"tool_use", "tool_result"})


def items(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """The turns of every conversation."""
    for number, found in enumerate(records(stream, reading), start=1):
        whole = as_dict(found)
        session_id, place = identifier(whole.get("uuid")), f"{reading.name}: conversation {number}"
        if session_id is None or not isinstance(whole.get("chat_messages"), list):
            yield Remark("no Claude conversation", place)
            continue
        drafts: list[Draft] = []
        for message in _path(whole):
            where = f"{place}, message {message.get('uuid')}"
            content = _text(message, tools=reading.tools)
            if content.strip():
                drafts.append(_draft(message, content, where, whole))
            else:
                blocks = {as_dict(block).get("type") for block in as_list(message.get("content"))}
                yield Remark("only tools" if blocks & _TOOL_BLOCKS else "empty", where)
        yield from conversation(session_id, drafts, begun=whole.get("created_at"))


def _path(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = [message for item in as_list(whole["chat_messages"]) if (message := as_dict(item))]
    named = {message["uuid"]: message for message in messages if isinstance(message.get("uuid"), str)}
    parents = {message.get("parent_message_uuid") for message in messages}
    if not parents & named.keys():
        return messages
    leaf = named.get(whole.get("current_leaf_message_uuid", ""))
    if leaf is None:
        leaves = [message for name, message in named.items() if name not in parents]
        leaf = max(reversed(leaves), key=lambda message: str(message.get("created_at") or ""), default=None)
    path: list[dict[str, Any]] = []
    seen: set[str] = set()
    while leaf is not None and leaf["uuid"] not in seen:
        seen.add(leaf["uuid"])
        path.append(leaf)
        parent = leaf.get("parent_message_uuid")
        leaf = named.get(parent) if isinstance(parent, str) else None
    return path[::-1]


def _draft(message: Mapping[str, Any], content: str, place: str, whole: Mapping[str, Any]) -> Draft:
    sender = message.get("sender")
    title = whole.get("name")
    return Draft(
        place=place,
        role=_ROLES.get(sender, sender) if isinstance(sender, str) else None,
        content=content,
        timestamp=message.get("created_at"),
        external_id=message.get("uuid"),
        metadata={"title": title} if isinstance(title, str) and title else None,
    )


def _text(message: Mapping[str, Any], *, tools: bool) -> str:
    blocks = as_list(message.get("content"))
    texts = [_block(as_dict(block), tools=tools) for block in blocks]
    if not blocks and isinstance(message.get("text"), str):  # where there are blocks, `text` repeats them
        texts.append(message["text"])
    for attachment in map(as_dict, as_list(message.get("attachments"))):
        # A long paste is an attachment without a name.
        name, extracted = attachment.get("file_name"), attachment.get("extracted_content")
        texts += [f"[file: {name}]" if name else "", extracted if isinstance(extracted, str) else ""]
    texts += [f"[file: {name}]" for file in as_list(message.get("files")) if (name := as_dict(file).get("file_name"))]
    return "\n".join(text for text in texts if text)


def _block(block: Mapping[str, Any], *, tools: bool) -> str:
    kind, text = block.get("type"), block.get("text")
    if kind == "text":
        return text if isinstance(text, str) else ""
    if tools and kind == "tool_use":
        return f"[{block.get('name')}] {compact(block.get('input'))}"
    if tools and kind == "tool_result":
        parts = [as_dict(part).get("text") for part in as_list(block.get("content"))]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""
