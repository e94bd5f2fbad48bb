"""Every format as people have it, and every way a file can be broken."""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memground.text import MAX_TEXT
from neuromem.errors import InvalidInputError
from neuromem.importers import Export, Fact, Item, Remark, Turn, jsonl
from neuromem.importers.items import moment

type Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file: bytes and texts as they are, anything else as JSON."""

    def write(name: str, content: Any) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return file

    return write


def read(*paths: Path, **options: Any) -> list[Item]:
    only = options.pop("only", None)
    return list(Export(paths, **options).items(only=only))


def turns(items: Sequence[Item]) -> list[Turn]:
    return [item for item in items if isinstance(item, Turn)]


def said(items: Sequence[Item]) -> list[tuple[str, str]]:
    return [(turn.message.role, turn.message.content) for turn in turns(items)]


def reasons(items: Sequence[Item]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Remark)]


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# ---------------------------------------------------------------- ChatGPT


def node(name: str, parent: str | None, role: str, *parts: Any, children: Sequence[str] = (), **more: Any) -> Any:
    content = more.pop("content", {"content_type": "text", "parts": list(parts)})
    message = {
        "id": name,
        "author": {"role": role, "name": more.pop("speaker", None), "metadata": {}},
        "create_time": more.pop("time", None),
        "content": content,
        "metadata": more.pop("metadata", {}),
        "recipient": more.pop("recipient", "all"),
        **more,
    }
    return {"id": name, "message": message, "parent": parent, "children": list(children)}


def chat(*nodes: Any, current: str | None, name: str = "c-1", **more: Any) -> dict[str, Any]:
    root = {"id": "root", "message": None, "parent": None, "children": [nodes[0]["id"]] if nodes else []}
    mapping = {item["id"]: item for item in (root, *nodes)}
    return {
        "title": "Porto",
        "create_time": 1_700_000_000.0,
        "update_time": 1_700_000_100.0,
        "mapping": mapping,
        "current_node": current,
        "conversation_id": name,
        **more,
    }


def test_chatgpt_the_path_that_was_seen(write: Write) -> None:
    file = write(
        "conversations.json",
        [
            chat(
                node("s", "root", "system", "", children=["u1"]),
                node("u1", "s", "user", "I fly to Porto.", children=["a0", "a1"], time=1_700_000_001.5),
                node("a0", "u1", "assistant", "the answer before it was regenerated", time=1_700_000_002),
                node("a1", "u1", "assistant", "When?", children=["u2"], metadata={"model_slug": "gpt-4o"}),
                node("u2", "a1", "user", "On 3 May.", time=1_700_000_010),
                current="u2",
            )
        ],
    )
    items = read(file)
    assert said(items) == [("user", "I fly to Porto."), ("assistant", "When?"), ("user", "On 3 May.")]
    assert reasons(items) == ["system message"]
    first, answer, last = (turn.message for turn in turns(items))
    assert {turn.session_id for turn in turns(items)} == {"c-1"}
    assert [first.external_id, answer.external_id] == ["u1", "a1"]
    assert first.timestamp == datetime(2023, 11, 14, 22, 13, 21, 500_000, UTC)
    assert answer.timestamp == first.timestamp  # it had none
    assert last.timestamp == datetime(2023, 11, 14, 22, 13, 30, tzinfo=UTC)
    assert answer.metadata == {"title": "Porto", "model": "gpt-4o"}


LEFT_OUT = [
    (node("x", "u", "user", "hi", metadata={"is_visually_hidden_from_conversation": True}), "hidden"),
    (node("x", "u", "user", content={"content_type": "user_editable_context"}), "custom instructions"),
    (node("x", "u", "assistant", content={"content_type": "thoughts", "thoughts": []}), "reasoning"),
    (node("x", "u", "assistant", content={"content_type": "reasoning_recap", "content": "x"}), "reasoning"),
    (node("x", "u", "assistant", content={"content_type": "system_error", "text": "x"}), "error message"),
    (node("x", "u", "tool", "a web page", speaker="web"), "tool output"),
    (
        node("x", "u", "assistant", content={"content_type": "code", "text": "1+1"}, recipient="python"),
        "call of a tool",
    ),
    (node("x", "u", "assistant", ""), "empty"),
    (node("x", "u", "assistant", None, {"content_type": "audio_asset_pointer"}), "empty"),
    (node("x", "u", "assistant", content=None), "empty"),
]


@pytest.mark.parametrize(("left", "reason"), LEFT_OUT)
def test_chatgpt_what_nobody_said_is_left_out_with_a_reason(write: Write, left: Any, reason: str) -> None:
    file = write("conversations.json", [chat(node("u", "root", "user", "hello"), left, current="x")])
    items = read(file)
    assert said(items) == [("user", "hello")]
    assert reasons(items) == [reason]


TEXTS = [
    (
        {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "this?"]},
        "[image]\nthis?",
    ),
    (
        {"content_type": "multimodal_text", "parts": [{"content_type": "audio_transcription", "text": "spoken"}]},
        "spoken",
    ),
    ({"content_type": "code", "language": "python", "text": "1 + 1"}, "```python\n1 + 1\n```"),
    (
        {"content_type": "text", "parts": ["It rains\ue200cite\ue202turn0search1\ue201 today【3†source】."]},
        "It rains today.",
    ),
    ({"content_type": "text", "parts": ['See \ue200entity\ue202["city","Oslo","Norway"]\ue201!']}, "See Oslo!"),
    ({"content_type": "something_new", "text": "still text"}, "still text"),
]


@pytest.mark.parametrize(("content", "text"), TEXTS)
def test_chatgpt_contents(write: Write, content: Any, text: str) -> None:
    file = write("conversations.json", [chat(node("u", "root", "assistant", content=content), current="u")])
    assert said(read(file)) == [("assistant", text)]


def test_chatgpt_tools_when_asked_and_notes_always(write: Write) -> None:
    nodes = (
        node("u", "root", "user", "Remember that I like tea.", time=1_700_000_000),
        node("b", "u", "assistant", "User likes tea.", recipient="bio"),
        node("t", "b", "tool", "Model set context updated.", speaker="bio"),
    )
    file = write("conversations.json", [chat(*nodes, current="t")])
    assert [text for _, text in said(read(file))] == ["Remember that I like tea.", "User likes tea."]
    told = turns(read(file, tools=True))[-1].message
    assert (told.role, told.speaker, told.content) == ("tool", "bio", "Model set context updated.")


def test_chatgpt_a_tree_that_is_none_still_gives_what_it_holds(write: Write) -> None:
    circle = [node("u", "a", "user", "one", time=5e8), node("a", "u", "assistant", "two", time=6e8)]
    file = write(
        "conversations.json",
        [
            chat(*circle, current="a"),
            chat(node("u", "root", "user", "lost end", time=5e8), current="gone", name="c-2"),
            chat(node("u", None, "user", "by id", time=5e8), current=None, name=None, id="c-3"),
            {"title": "no mapping", "mapping": None},
            chat(current=None, name="c-4"),
            None,
        ],
    )
    items = read(file, format="chatgpt")
    assert [text for _, text in said(items)] == ["one", "two", "lost end", "by id"]
    assert reasons(items) == ["no ChatGPT conversation"] * 2


def test_a_conversation_without_times_takes_its_own(write: Write) -> None:
    file = write("conversations.json", [chat(node("u", "root", "user", "hi"), current="u")])
    assert turns(read(file))[0].message.timestamp == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


# ---------------------------------------------------------------- Claude


def claude(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "uuid": "k-1",
        "name": "Porto",
        "summary": "",
        "created_at": "2025-05-01T10:00:00.000000Z",
        "updated_at": "2025-05-01T11:00:00Z",
        "account": {"uuid": "x"},
        "chat_messages": list(messages),
        **more,
    }


def message(name: str, sender: str, *blocks: Any, parent: str | None = None, minute: int = 0, **more: Any) -> Any:
    return {
        "uuid": name,
        "text": more.pop("text", ""),
        "content": [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks],
        "sender": sender,
        "created_at": f"2025-05-01T10:{minute:02}:00.500000Z",
        "attachments": [],
        "files": [],
        **({"parent_message_uuid": parent} if parent else {}),
        **more,
    }


def test_claude(write: Write) -> None:
    file = write(
        "conversations.json",
        [
            claude(
                message("m1", "human", "I fly to Porto.", text="I fly to Porto."),
                message(
                    "m2",
                    "assistant",
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "tool_use", "name": "search", "input": {"q": "porto"}},
                    {"type": "tool_result", "content": [{"type": "text", "text": "a page"}]},
                    "When?",
                    minute=1,
                ),
                message("m3", "assistant", {"type": "tool_use", "name": "search", "input": {}}, minute=2),
                message("m4", "human", text="older exports have only this", minute=3),
                message("m5", "human", attachments=[{"file_name": "", "extracted_content": "a long paste"}], minute=4),
                message("m6", "human", "see", files=[{"file_name": "map.png"}], minute=5),
                message("m7", "human", content=None, text=None),
            )
        ],
    )
    items = read(file)
    assert said(items) == [
        ("user", "I fly to Porto."),
        ("assistant", "When?"),
        ("user", "older exports have only this"),
        ("user", "a long paste"),
        ("user", "see\n[file: map.png]"),
    ]
    assert reasons(items) == ["only tools", "empty"]
    first = turns(items)[0]
    assert (first.session_id, first.message.external_id, first.message.metadata) == ("k-1", "m1", {"title": "Porto"})
    assert first.message.timestamp == datetime(2025, 5, 1, 10, 0, 0, 500_000, UTC)
    with_tools = said(read(file, tools=True))
    assert with_tools[1] == ("assistant", '[search] {"q": "porto"}\na page\nWhen?')


ROOT = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("leaf", [None, "a2", "gone"])
def test_claude_branches_that_were_left_are_left_out(write: Write, leaf: str | None) -> None:
    branches = (
        message("u1", "human", "the first wording", parent=ROOT),
        message("a1", "assistant", "answer to it", parent="u1", minute=1),
        message("u2", "human", "the second wording", parent=ROOT, minute=2),
        message("a2", "assistant", "answer to that", parent="u2", minute=3),
    )
    file = write("conversations.json", [claude(*branches, current_leaf_message_uuid=leaf)])
    assert [text for _, text in said(read(file))] == ["the second wording", "answer to that"]


# ---------------------------------------------------------------- mem0


def remembered(name: str, text: Any, **more: Any) -> dict[str, Any]:
    return {"id": name, "memory": text, "user_id": "alice", "created_at": "2024-07-26T10:29:36.6-07:00", **more}


@pytest.mark.parametrize("shape", [lambda m: {"results": m, "relations": []}, lambda m: m, lambda m: {"memories": m}])
def test_mem0(write: Write, shape: Callable[[Any], Any]) -> None:
    found = [
        remembered("m1", "Likes tea", hash="x", categories=["food"], metadata={"by": "app"}, updated_at=None),
        remembered("m2", "Lives in Porto", updated_at="2024-09-01T00:00:00Z", expiration_date="2030-01-01"),
    ]
    items = read(write("mem0.json", shape(found)))
    tea, porto = (item for item in items if isinstance(item, Fact))
    assert (tea.memory.content, tea.memory.external_id, tea.owner) == ("Likes tea", "mem0:m1", "alice")
    assert tea.memory.known_at == datetime(2024, 7, 26, 17, 29, 36, 600_000, UTC)
    assert tea.memory.metadata == {"categories": ["food"], "created_at": found[0]["created_at"], "by": "app"}
    assert porto.memory.known_at == datetime(2024, 9, 1, tzinfo=UTC)
    assert porto.memory.valid_to == datetime(2030, 1, 1, tzinfo=UTC)


def test_openmemory(write: Write) -> None:
    one = {"id": "1", "user_id": "u", "content": "Likes tea", "state": "active", "app_id": "a", "created_at": 17e8}
    gone = one | {"id": "2", "state": "deleted"}
    items = read(write("memories.json", {"user": {"id": "u"}, "memories": [one, gone]}))
    assert [item.memory.content for item in items if isinstance(item, Fact)] == ["Likes tea"]
    assert reasons(items) == ["deleted in mem0"]


def test_several_owners_are_not_mixed(write: Write) -> None:
    file = write("mem0.json", [remembered("1", "tea"), remembered("2", "rain", user_id="bob"), remembered("3", "sun")])
    for reading in (lambda: read(file), Export([file]).check_owners):
        with pytest.raises(InvalidInputError, match=r"\(alice, bob, perhaps others\); choose one with --only"):
            reading()
    assert [item.memory.content for item in read(file, only="alice") if isinstance(item, Fact)] == ["tea", "sun"]


# ---------------------------------------------------------------- JSON lines


def test_jsonl(write: Write) -> None:
    file = write(
        "talk.jsonl",
        lines(
            {
                "role": "user",
                "content": "hello",
                "session": "s1",
                "timestamp": "2024-05-01T10:00:00Z",
                "speaker": "Ann",
            },
            {"role": "assistant", "content": "hi", "session": "s2", "timestamp": 1_714_557_600_000, "external_id": "x"},
            {"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "image"}], "session": "s1"},
            {"text": "only text", "lang": "en", "metadata": {"a": 1}},
        ),
    )
    first, second, third, fourth = turns(read(file))
    assert (first.session_id, first.message.speaker, first.message.role) == ("s1", "Ann", "user")
    assert second.message.external_id == "x"
    assert second.message.timestamp == first.message.timestamp == third.message.timestamp
    assert third.message.content == "part"
    assert (fourth.session_id, fourth.message.role) == ("talk", "user")
    assert fourth.message.metadata == {"lang": "en", "a": 1}
    assert fourth.message.timestamp is None


def test_jsonl_lines_without_ids_are_named_by_what_they_say(write: Write) -> None:
    ok = {"role": "user", "content": "ok"}
    timed = [{"role": "user", "content": "ok", "timestamp": f"2024-05-01T10:00:0{n}Z"} for n in (1, 1, 2)]
    records = [ok, ok, *timed, ok]
    names = [turn.message.external_id for turn in turns(read(write("a.jsonl", lines(*records))))]
    assert len({*names}) == len(names)
    (write("a.jsonl", lines(*records, ok)))
    again = [turn.message.external_id for turn in turns(read(write("a.jsonl", lines(*records, ok))))]
    assert again[:-1] == names
    without_one = [turn.message.external_id for turn in turns(read(write("a.jsonl", lines(*timed[:1], *timed[2:]))))]
    assert set(without_one) < set(names)


def test_jsonl_the_first_lines_wait_for_a_time_but_not_for_ever(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_WAITING", 2)
    timeless = {"role": "user", "content": "when?"}
    timed = timeless | {"timestamp": "2024-05-01T10:00:00Z"}
    at = datetime(2024, 5, 1, 10, tzinfo=UTC)
    for count, expected in ((2, [at] * 4), (3, [None] * 3 + [at, at])):
        items = read(write("a.jsonl", lines(*[timeless] * count, timed, timeless)))
        assert [turn.message.timestamp for turn in turns(items)] == expected


def test_jsonl_broken_lines_are_named_and_the_rest_is_read(write: Write) -> None:
    good = b'{"role": "user", "content": "hello"}\n'
    file = write(
        "a.jsonl", good + b"{broken\n\n[1]\n" + b'{"content": "caf\xe9"}\n' + b'{"content": null}\n' + good[:-9]
    )
    items = read(file)
    assert said(items) == [("user", "hello")]
    remarks = sorted((item.place[:15], item.reason) for item in items if isinstance(item, Remark))
    assert remarks == [
        ("a.jsonl: line 2", "no JSON"),
        ("a.jsonl: line 4", "no JSON object"),
        ("a.jsonl: line 5", "no JSON"),
        ("a.jsonl: line 6", "no text"),
        ("a.jsonl: line 7", "no JSON"),
    ]


def test_jsonl_a_line_without_end_does_not_fill_the_memory(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 100)
    items = read(write("a.jsonl", lines({"content": "a"}, {"content": "b" * 1000}, {"content": "c"})))
    assert [text for _, text in said(items)] == ["a", "c"]
    assert reasons(items) == ["longer than 100 bytes"]


def test_an_array_of_messages_is_read_like_lines(write: Write) -> None:
    file = write("a.json", [{"role": "user", "content": "one"}, 5, {"role": "user", "content": "two"}])
    assert [text for _, text in said(read(file))] == ["one", "two"]


# ---------------------------------------------------------------- LoCoMo


def test_locomo(write: Write) -> None:
    turn = {"speaker": "Ann", "dia_id": "D1:1", "text": "Hello"}
    talk = {
        "speaker_a": "Ann",
        "speaker_b": "Bob",
        "session_1": [turn],
        "session_1_date_time": "1:56 pm on 8 May, 2023",
    }
    file = write("locomo.json", [{"qa": [], "sample_id": "conv-1", "conversation": talk}])
    (found,) = turns(read(file))
    assert (found.session_id, found.owner, found.message.speaker) == ("conv-1/session_1", "conv-1", "Ann")
    assert found.message.timestamp == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


# ---------------------------------------------------------------- hostile and broken files


HELLO = lines({"role": "user", "content": "hello"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(write: Write, encoding: str) -> None:
    text = lines({"role": "user", "content": "grüß dich, 你好 🙂"}) * 1_000
    assert said(read(write("a.jsonl", text.encode(encoding)))) == [("user", "grüß dich, 你好 🙂")] * 1_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b"", "is empty"),
        ("a.json", b" \n", "is empty"),
        ("a.json", b"<html>", "is no JSON"),
        ("a.json", b"[]", "holds no record"),
        ("a.json", b'[{"a": 1}]', "its first record has a"),
        ("a.json", b'{"name": "x"}', "its first record has name"),
        ("a.json", b"\x00\x01\x02\x03", "no JSON"),
        ("export.zip", b"not a zip", "is no zip archive"),
        ("export.zip", b"PK\x03\x04 but then nothing", "broken zip archive"),
        ("a.json", b'[{"mapping": {}}', "ends too early"),
        ("a.json", b'[{"mapping": {}}, nonsense]', "broken JSON after 1 records"),
    ],
)
def test_what_is_no_export_is_refused_in_words(write: Write, name: str, content: bytes, says: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(write(name, content))
    assert says in str(refused.value)
    assert name in str(refused.value)


def test_a_missing_file_and_a_wrong_format(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="No such file"):
        Export([tmp_path / "gone.json"])
    with pytest.raises(InvalidInputError, match="accepted: jsonl, chatgpt, claude, mem0, locomo"):
        Export([tmp_path], format="xml")
    with pytest.raises(InvalidInputError, match="no file"):
        Export([])
    with pytest.raises(InvalidInputError, match=r"holds no conversations\.json"):
        Export([tmp_path])


def test_a_truncated_export_gives_what_stands_before(write: Write) -> None:
    whole = json.dumps([chat(node("u", "root", "user", f"text {n}"), current="u", name=f"c{n}") for n in range(5)])
    found: list[Item] = []
    with pytest.raises(InvalidInputError, match="ends too early"):
        found += Export([write("conversations.json", whole[: len(whole) * 3 // 5])]).items()
    items = Export([write("conversations.json", whole[: len(whole) * 3 // 5])]).items()
    assert [next(items).message.content for _ in range(2)] == ["text 0", "text 1"]  # type: ignore[union-attr]


def archive(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def test_zip_archives_and_folders_numbered_nested_and_nasty(write: Write, tmp_path: Path) -> None:
    def one(name: str) -> str:
        return json.dumps([chat(node("u", "root", "user", name), current="u", name=name)])

    members = {
        "export/conversations-001.json": one("second"),
        "export/conversations-000.json": one("first"),
        "../../etc/conversations-002.json": one("third"),
        "__MACOSX/export/._conversations-000.json": "junk",
        "export/user.json": "{}",
        "export/chat.html": "<html>",
        "shared_conversations.json": "[]",
    }
    items = read(write("export.zip", archive(**members)))
    assert [text for _, text in said(items)] == ["third", "first", "second"]
    for name, content in members.items():
        if ".." not in name:
            write(f"unpacked/{name}", content)
    assert [text for _, text in said(read(tmp_path / "unpacked"))] == ["first", "second"]
    with pytest.raises(InvalidInputError, match=r"holds no conversations\.json"):
        read(write("other.zip", archive(**{"a.txt": "x"})))


def test_a_zip_that_would_unpack_to_no_end_is_not_read(write: Write) -> None:
    bomb = archive(**{"conversations.json": "[" + " " * 101_000_000})
    with pytest.raises(InvalidInputError, match="which no chat does"):
        read(write("bomb.zip", bomb))


def test_a_zip_with_a_damaged_member(write: Write) -> None:
    whole = bytearray(
        archive(**{"conversations.json": json.dumps([chat(current=None, name=f"c{n}") for n in range(999)])})
    )
    whole[len(whole) // 2] ^= 0xFF
    with pytest.raises(InvalidInputError, match="broken"):
        read(write("export.zip", bytes(whole)))


def test_characters_that_cannot_be_stored(write: Write) -> None:
    text = (
        '{"role": "us\\u0000er", "content": "a\\u0000b \\ud83d\\ude42 \\ud800.", "metadata": {"k\\u0000": "\\ud800"}}\n'
    )
    items = read(write("a.jsonl", text))
    (turn,) = turns(items)
    assert turn.message.content == "ab 🙂 \ufffd."
    assert turn.message.role == "user"
    assert turn.message.metadata == {"k": "\ufffd"}
    assert reasons(items) == ["NUL characters or lone surrogates, cleaned"]


def test_a_message_longer_than_is_accepted_is_split_at_the_end_of_a_line(write: Write) -> None:
    text = ("x" * 999 + "\n") * 2_500
    items = read(write("a.jsonl", lines({"role": "user", "content": text, "id": "long"})))
    parts = [turn.message for turn in turns(items)]
    assert "".join(part.content for part in parts) == text
    assert [part.external_id for part in parts] == ["long#1", "long#2", "long#3"]
    assert max(len(part.content) for part in parts) <= MAX_TEXT
    assert all(part.content.endswith("\n") for part in parts)
    assert reasons(items) == ["longer than 1,000,000 characters, split"]


def test_metadata_that_cannot_be_stored_is_dropped_not_the_message(write: Write) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    items = read(
        write("a.jsonl", lines({"content": "kept", "metadata": {"deep": deep}}, {"content": "too", "n": 10**30}))
    )
    assert [text for _, text in said(items)] == ["kept", "too"]
    assert reasons(items) == ["metadata that cannot be stored"] * 2


def test_long_names_are_cut_and_stay_different(write: Write) -> None:
    records = [{"content": "a", "session": "s" * 300 + str(n), "id": "i" * 300 + str(n)} for n in range(2)]
    first, second = turns(read(write("a.jsonl", lines(*records))))
    assert first.session_id != second.session_id
    assert first.message.external_id != second.message.external_id
    assert len(first.session_id) == 255


@pytest.mark.parametrize("value", [None, "", 0, False])
def test_no_time(value: Any) -> None:
    assert moment(value) is None


@pytest.mark.parametrize(
    "value", [1_700_000_000, 1_700_000_000_000, "1700000000", "2023-11-14T22:13:20", "2023-11-14 22:13:20 UTC"]
)
def test_times(value: Any) -> None:
    assert moment(value) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize("value", ["soon", float("nan"), 1e300, [], {}, "0001-01-01T00:00:00+14:00"])
def test_times_that_are_none(value: Any) -> None:
    with pytest.raises(ValueError):
        moment(value)


def test_a_time_that_is_not_understood_is_said_and_the_neighbour_s_taken(write: Write) -> None:
    items = read(
        write("a.jsonl", lines({"content": "a", "timestamp": "2024-05-01"}, {"content": "b", "timestamp": "soon"}))
    )
    assert [turn.message.timestamp for turn in turns(items)] == [datetime(2024, 5, 1, tzinfo=UTC)] * 2
    assert reasons(items) == ["time not understood"]


def test_the_origin_is_the_content_s(write: Write) -> None:
    first = Export([write("a.jsonl", HELLO)]).origin
    assert first == Export([write("a.jsonl", HELLO)]).origin
    assert first.startswith("import:a.jsonl@")
    assert first != Export([write("a.jsonl", HELLO * 2)]).origin
    assert Export([write("a.jsonl", HELLO), write("b.jsonl", HELLO)]).origin.startswith("import:a.jsonl+1@")


def test_the_position_reaches_the_size(write: Write) -> None:
    export = Export(
        [
            write("a.jsonl", HELLO * 1_000),
            write("b.zip", archive(**{"conversations.json": json.dumps([chat(current=None)])})),
        ]
    )
    list(export.items())
    assert export.position == export.size
    assert export.formats == {"jsonl", "chatgpt"}
