"""Every public call checks its input and raises one of the tree; nothing half-written."""

import base64
import inspect
import json
import math
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from neuromem import (
    ConfigurationError,
    Emotion,
    Episode,
    F,
    Fact,
    InvalidInputError,
    JobPolicy,
    MemoryStoreError,
    NeuroMemory,
    NewMemory,
    NewMessage,
    NotFoundError,
    ProviderError,
    Source,
    Triple,
)
from neuromem.facades import ConversationsFacade, FilesFacade, GraphFacade, KVFacade
from neuromem.providers.embedding import EmbeddingProvider
from support.calls import LONG_AGO, READS, WRITES, World, call, settle, state
from support.embeddings import HashEmbedding
from support.storages import FolderStorage

DIMS = 8
HUGE = "x" * 10_000_000
SOON = datetime.now(UTC) + timedelta(days=1)
NAIVE = datetime(2024, 5, 1)  # noqa: DTZ001 - the point


@dataclass(frozen=True)
class Bad:
    """A value no call accepts, and what its error must say about it beside the argument's name."""

    value: Any
    says: str
    error: type[MemoryStoreError] = InvalidInputError

    def __str__(self) -> str:
        return f"{type(self.value).__name__} ({self.says})"


def bad_texts(limit: int = 1_000_000) -> list[Bad]:
    return [
        *(Bad(value, f"got {type(value).__name__} {value!r}") for value in (5, b"x", ["x"], 1.5, {"a": 1})),
        Bad("", "empty"),
        Bad(" \n", "empty"),
        Bad("a\x00b", "NUL character at position 1"),
        Bad("a\ud800", "lone surrogate U+D800 at position 1"),
        Bad("x" * (limit + 1), f"at most {limit:,}"),
        Bad(HUGE, "10,000,000 characters"),
    ]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def recursive() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


NONE = Bad(None, "None")

NO_JSON = [
    Bad({1, 2}, "a set"),
    Bad(SOON, "a datetime"),
    Bad(b"x", "a bytes"),
    Bad(Decimal(1), "a Decimal"),
    Bad(object(), "a object"),
    Bad(math.nan, "nan"),
    Bad(math.inf, "inf"),
    Bad(2**63, str(2**63)),
    Bad(-(2**63) - 1, str(-(2**63) - 1)),
    Bad({1: "a"}, "key 1 of type int"),
    Bad({None: "a"}, "key None"),
    Bad({"a\x00": 1}, "NUL"),
    Bad({"\ud800": 1}, "U+D800"),
    Bad("a\x00", "NUL"),
    Bad("\udfff", "U+DFFF"),
    Bad(nested(1000), "deeper than 32"),
    Bad(recursive(), "deeper than 32"),
    Bad(HUGE, "larger than 1,000,000"),
]

NO_NUMBERS = [
    Bad([math.nan] * DIMS, "NaN or infinity"),
    Bad([math.inf] * DIMS, "NaN or infinity"),
    Bad([10**400] * DIMS, f"a list of {DIMS} numbers"),
    Bad([1e300] * DIMS, "has the length 2.82843e+300"),
    Bad([1e-300] * DIMS, "has the length 2.82843e-300"),
    Bad([0.0] * DIMS, "zero"),
    Bad([1.0] * (DIMS - 1), f"{DIMS - 1} numbers"),
    Bad([1.0] * (DIMS + 1), f"{DIMS + 1} numbers"),
    Bad([], "0 numbers"),
    Bad("1" * DIMS, "got str '1"),
    Bad(b"x" * DIMS, "got bytes b'x"),
    Bad([[1.0]] * DIMS, f"a list of {DIMS} numbers"),
    Bad([None] * DIMS, f"a list of {DIMS} numbers"),
    Bad(5, "got int 5"),
]

NO_FILTER = [
    Bad({"nosuch": 1}, "nosuch"),
    Bad({"embedding": 1}, "embedding"),
    Bad(F("user_id") == "other", "user_id"),
    Bad({"metadata.x": {"like": "a"}}, "like"),
    Bad({"metadata..x": 1}, "metadata..x"),
    Bad({"": 1}, "''"),
    Bad({1: 2}, "1"),
    Bad({"metadata.x": None}, "null"),
    Bad({"metadata.x": math.nan}, "nan"),
    Bad({"metadata.x": 2**64}, str(2**64)[:10]),
    Bad({"metadata.x": NAIVE}, "naive"),
    Bad({"metadata.x": {"in": "abc"}}, "abc"),
    Bad({"metadata.a\x00": 1}, "NUL"),
    Bad({"content": "a\x00"}, "NUL"),
    Bad({"event_at": {"gt": "yesterday"}}, "yesterday"),
    Bad({"importance": {"gt": "high"}}, "high"),
    Bad({"or": []}, "or"),
    Bad("x", "'x'"),
    Bad(5, "5"),
    Bad([{"content": 1}], "content"),
]


def bad_ids(what: str) -> list[Bad]:
    wrong = ["", "x", "a\x00", "\ud800", 5, b"x", ["x"], 1.5, HUGE]
    return [Bad(value, f"{what}={value!r:.20}") for value in wrong]


def packed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def bad_names(name: str, limit: int = 255) -> list[Bad]:
    return [NONE, *bad_texts(limit)]


ZERO, UNKNOWN = str(uuid.UUID(int=0)), str(uuid.UUID(int=7))
NO_CURSOR = [
    *(Bad(value, "cursor=") for value in ("", "x", "é", "\ud800", 5, b"x", ["x"], HUGE)),
    *(Bad(packed(value), "cursor=") for value in ([1], {"a": 1}, ["a", "b"], [1, "b"], [1, 2], ["1", ZERO])),
    *(Bad(packed([value, ZERO]), "cursor=") for value in (2**63, -1, 1.5, True, None, math.inf, math.nan)),
]

NO_LIMIT = [
    *(Bad(value, f"limit={value!r}") for value in (0, -1, 1_001, 10**9, 2**70, True, 5.0, math.nan, "5", b"5", [5])),
    Bad(10**5000, "limit="),
]
NO_PLACE = [Bad(value, f"after={value!r}") for value in (-1, 2**31, 2**70, True, 1.0, "1", [1])]
NO_VERSION = [Bad(value, f"version={value!r}") for value in (None, True, 1.5, "1", [1], -1, 2**63, 2**70)]
NO_IMPORTANCE = [Bad(value, f"importance={value!r}") for value in (0, 11, -1, 2**70, True, 5.5, "5", [5], math.nan)]
NO_TIME = [
    Bad(NAIVE, "no timezone"),
    Bad("2024-05-01", "got str '2024-05-01'"),
    Bad(5, "got int 5"),
    Bad(date(2024, 5, 1), "got date"),
    Bad(datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "years 1 to 9999"),
    Bad(datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), "years 1 to 9999"),
]
NO_TYPES = [
    Bad("fact", "'fact'"),
    Bad(5, "5"),
    Bad([None], "None"),
    Bad([1], "1"),
    Bad([""], "empty"),
    Bad(["a\x00"], "NUL"),
    Bad(["x" * 256], "256 characters"),
]
NO_TERMS = [
    *(Bad(value, f"got {type(value).__name__} {value!r}") for value in (5, b"x", ["x"], 1.5)),
    Bad("", "empty"),
    Bad(" __ ", "no letter or digit"),
    Bad("a\x00", "NUL"),
    Bad("a\ud800", "U+D800"),
    Bad("x" * 101, "at most 100"),
    Bad("ﷺ" * 10, "at most 100"),
    Bad(HUGE, "10,000,000 characters"),
]
NO_NAMES = [NONE, *bad_texts(255), Bad("\u200b", "no visible character"), Bad("ﷺ" * 100, "at most 255")]
NO_SOURCES = [
    Bad("x", "'x'"),
    Bad(5, "5"),
    Bad(["x"], "'x'"),
    Bad([5], "5"),
    Bad([None], "None"),
    Bad([b"x"], "b'x'"),
    Bad([nested(5000)], "source id=[[["),
    Bad([UNKNOWN], UNKNOWN, NotFoundError),
    Bad([uuid.UUID(UNKNOWN)], UNKNOWN, NotFoundError),
    Bad([Source("document", UNKNOWN)], UNKNOWN, NotFoundError),
    Bad([Source("web", UNKNOWN)], "'web'"),  # type: ignore[arg-type]
    Bad([Source("message", "x")], "'x'"),
    Bad([Source("message", UNKNOWN, {"a": {1}})], "a set"),
    Bad([Source("message", UNKNOWN, 5)], "got int 5"),  # type: ignore[arg-type]
]
METADATA = [
    *(Bad(value, f"got {type(value).__name__} {value!r}") for value in ("x", 5, [1], b"x", True)),
    Bad(nested(5000), "got list"),
    *(Bad({"a": bad.value}, bad.says) for bad in NO_JSON),
]

GOOD_TRIPLE = Triple("Anna", "likes", "tea")


def no_items(kind: type[Fact] | type[Episode]) -> list[Bad]:
    """What is no list of facts, or of episodes."""
    return [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, "x", 5)),
        *(Bad([kind("good"), value], f"got {type(value).__name__}") for value in (None, "x", 5, GOOD_TRIPLE)),
        *(Bad([kind("good"), kind(bad.value)], bad.says) for bad in bad_texts()),
        *(Bad([kind("good"), kind("x", category=bad.value)], bad.says) for bad in bad_texts(255) if bad.value),
        Bad([kind("x", confidence=-0.1)], "confidence=-0.1"),
        Bad([kind("x", importance=11)], "importance=11"),
        Bad([kind("x", entities=["good", ""])], "empty"),
        Bad([kind("x", emotion=Emotion(2, 0))], "valence=2"),
        Bad([{"content": "x", "emotion": {"valence": 0}}], "lacks a field"),
        Bad([{"content": "x", "mood": 1}], "has the field 'mood'"),
        Bad([{}], "lacks a field"),
    ]


NO_ZONE = [
    Bad(value, "pass an IANA name such as 'Europe/Lisbon'")
    for value in ("Mars/Olympus", "Europe", "UTC+1", "../etc/passwd", "/etc/passwd", "é", "x" * 255)
]

#: What each parameter refuses. None: it takes anything.
REFUSED: Mapping[str, Sequence[Bad] | None] = {
    "user_id": bad_names("user_id"),
    "scope_id": bad_names("scope_id"),
    "namespace": bad_names("namespace"),
    "key": bad_names("key"),
    "role": bad_names("role", 50),
    "session_id": bad_texts(255),
    "speaker": bad_texts(255),
    "external_id": bad_texts(255),
    "origin": bad_texts(255),
    "memory_type": bad_names("memory_type", 50),
    "content": [NONE, *bad_texts()],
    "query": [NONE, *bad_texts(10_000)],
    "prefix": [NONE, *(bad for bad in bad_texts(255) if bad.says != "empty")],
    "memory_id": [NONE, *bad_ids("memory_id")],
    "message_id": [NONE, *bad_ids("message_id")],
    "document_id": [NONE, *bad_ids("document_id")],
    "cursor": NO_CURSOR,
    "limit": NO_LIMIT,
    "after": NO_PLACE,
    "version": NO_VERSION,
    "importance": NO_IMPORTANCE,
    "metadata": METADATA,
    "node_type": NO_TERMS,
    "source_type": NO_TERMS,
    "target_type": NO_TERMS,
    "edge_type": [NONE, *NO_TERMS],
    "node_id": NO_NAMES,
    "source_id": NO_NAMES,
    "target_id": NO_NAMES,
    "name": NO_NAMES,
    "entity": NO_NAMES,
    "edge_id": [NONE, *bad_ids("edge_id")],
    "edge_types": [
        *(Bad(value, f"got {type(value).__name__}") for value in ("lives_in", 5)),
        *(Bad(["good", bad.value], bad.says) for bad in NO_TERMS),
    ],
    "direction": [Bad(value, f"direction={value!r}") for value in (None, "up", 5, ["in"])],
    "triples": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, "x", 5)),
        *(Bad([Triple("a", "b", "c"), value], f"got {type(value).__name__} {value!r}") for value in (None, 5, "x")),
        *(Bad([Triple("a", "b", "c"), Triple(bad.value, "b", "c")], bad.says) for bad in NO_NAMES),
        *(Bad([Triple("a", "b", "c"), Triple("a", bad.value, "c")], bad.says) for bad in NO_TERMS),
        *(
            Bad([Triple("a", "b", "c", confidence=value)], f"confidence={value!r}")
            for value in (-1, 1.1, math.nan, "1")
        ),
        Bad([Triple("a", "b", "c", valid_from=NAIVE)], "no timezone"),
        Bad([Triple("a", "b", "c", valid_from=LONG_AGO, valid_to=LONG_AGO)], "valid_to="),
    ],
    "max_depth": [Bad(value, f"max_depth={value!r}") for value in (None, 0, -1, 11, 2**70, True, 1.0, "4")],
    "properties": [
        *(Bad(value, f"got {type(value).__name__} {value!r}") for value in ("x", 5, [1], b"x", True)),
        *(Bad({"a": bad.value}, bad.says) for bad in NO_JSON),
    ],
    "value": [*NO_JSON, Bad([0] * 1_000_000, "larger than 1,000,000")],
    "values": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, "x", 5, [("a", 1)])),
        Bad({"good": 1, 5: 1}, "got int 5"),
        Bad({"good": 1, "": 1}, "empty"),
        *(Bad({"good": 1, "bad": bad.value}, bad.says) for bad in NO_JSON),
    ],
    "where": NO_FILTER,
    "memory_types": NO_TYPES,
    "query_embedding": NO_NUMBERS,
    "sources": NO_SOURCES,
    "start": NO_TIME,
    "end": [*NO_TIME, Bad(datetime(2019, 1, 1, tzinfo=UTC), "does not lie after start=")],
    "days": [Bad(value, "a whole number from 1 to 36,600") for value in (None, 0, -1, 36_601, 1.5, True, "7", [7])],
    "granularity": [
        Bad(value, "pass 'day', 'week', 'month' or 'year'") for value in (None, "", "decade", "Month", 5, ["day"], HUGE)
    ],
    "timezone": [*bad_texts(255), *NO_ZONE],
    "timestamp": NO_TIME,
    "as_of": NO_TIME,
    "valid_at": NO_TIME,
    "valid_from": NO_TIME,
    "valid_to": NO_TIME,
    "recorded_since": NO_TIME,
    "t1": [NONE, *NO_TIME],
    "t2": [NONE, *NO_TIME, Bad(datetime(2019, 1, 1, tzinfo=UTC), "lies before")],
    "before": [NONE, *NO_TIME, Bad(SOON, "future")],
    "to_time": [NONE, *NO_TIME, Bad(SOON, "future")],
    "known_at": [*NO_TIME, Bad(SOON, "future"), Bad(datetime(1600, 1, 1, tzinfo=UTC), "before 1700")],
    "memories": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, 5)),
        Bad("x", "got str 'x'"),
        *(Bad(["good", value], f"got {type(value).__name__} {value!r}") for value in (None, 5, b"x", ["x"], {"a": 1})),
        *(Bad(["good", bad.value], bad.says) for bad in bad_texts() if isinstance(bad.value, str)),
        Bad(["good", NewMemory("x", importance=11)], "importance=11"),
        Bad(["good", NewMemory("x", sources=[UNKNOWN])], UNKNOWN, NotFoundError),
        *(Bad(["good", NewMemory("x", external_id=bad.value)], bad.says) for bad in bad_texts(255)),
    ],
    "messages": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, 5)),
        *(Bad([NewMessage("user", "good"), value], f"got {type(value).__name__} {value!r}") for value in (None, 5)),
        *(Bad([NewMessage("user", "good"), NewMessage("user", bad.value)], bad.says) for bad in bad_texts()),
        Bad([NewMessage("user", "good"), NewMessage("user", "x", timestamp=NAIVE)], "no timezone"),
    ],
    "conversations": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, "x", 5, [("s1", [])])),
        Bad({"s1": [], 5: []}, "got int 5"),
        Bad({"s1": [NewMessage("user", "good")], "s2": "x"}, "got str 'x'"),
        Bad({"s1": [NewMessage("user", "good")], "s2": [None]}, "got NoneType"),
        *(
            Bad({"s1": [NewMessage("user", "good")], bad.value: []}, bad.says)
            for bad in bad_texts(255)
            if isinstance(bad.value, str)
        ),
    ],
    "facts": no_items(Fact),
    "episodes": no_items(Episode),
    "profile_updates": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, "x", 5, [("a", 1)])),
        Bad({"good": 1, 5: 1}, "got int 5"),
        Bad({"good": 1, "": 1}, "empty"),
        *(Bad({"good": 1, "bad": bad.value}, bad.says) for bad in NO_JSON),
    ],
    "filename": bad_names("filename", 500),
    "title": bad_names("title", 500),
    "text": [NONE, *bad_texts(10_000_000)[:-1]],
    "data": [
        Bad(value, f"data must be bytes or a Path, got {type(value).__name__}") for value in (None, "x", 5, [b"x"])
    ],
    "category": bad_texts(100),
    "tags": [
        *(Bad(value, f"got {type(value).__name__}") for value in ("porto", 5, {"a": 1})),
        *(Bad(["good", value], says) for value, says in ((None, "None"), (5, "5"), ("", "empty"), ("a\x00", "NUL"))),
        Bad(["x" * 101], "at most 100"),
    ],
    "file_type": bad_texts(50),
    "page": [Bad(value, f"page={value!r}") for value in (0, -1, 2**31, True, 1.5, "1", [1])],
    "expires_in": [Bad(value, f"expires_in={value!r}") for value in (None, 0, -1, 604_801, 1.5, True, "60")],
    "objects": [Bad(value, f"got {type(value).__name__}") for value in (None, 1, "yes")],
    "records": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, "x", 5, {"record": "header"})),
        Bad([], "empty"),
        Bad([5], "record 1 of the export"),
    ],
    "progress": [Bad(value, f"got {type(value).__name__}") for value in ("x", 5, [1])],
    "default": None,
    "include_conversations": None,
    "explain": None,
}

# What files are filtered by.
NO_FILE_FILTER = [
    *(bad for bad in NO_FILTER if bad.says in {"nosuch", "embedding", "user_id", "like", "metadata..x", "null", "or"}),
    Bad({"content": "x"}, "content"),
    Bad({"filename": "a\x00"}, "NUL"),
    Bad({"file_size": {"gt": "much"}}, "much"),
    Bad({"known_from": {"gt": "yesterday"}}, "yesterday"),
]


def refused(name: str, parameter: str) -> Sequence[Bad] | None:
    """What a parameter of a call refuses."""
    return NO_FILE_FILTER if name.startswith("files.") and parameter == "where" else REFUSED[parameter]


OPTIONAL = (
    {  # None means all users
        (name, "user_id") for name in ("background_status", "retry_failed", "retry_failed_extractions")
    }
    | {  # all documents
        ("files.search", "document_id"),
    }
    | {  # and here that another argument says what is meant
        ("preview_erasure", name) for name in ("memory_id", "message_id", "document_id", "before")
    }
)

# Messages of these name the path, the operator or the item instead of the argument that holds it.
NAMES_ITS_PART = frozenset(
    {
        "where", "memories", "messages", "values", "sources", "conversations", "facts", "episodes", "triples",
        "profile_updates", "records",
    }
)  # fmt: skip

FACADES = {
    "": NeuroMemory,
    "kv.": KVFacade,
    "conversations.": ConversationsFacade,
    "graph.": GraphFacade,
    "files.": FilesFacade,
}
PUBLIC = {
    prefix + name: function
    for prefix, cls in FACADES.items()
    for name, function in inspect.getmembers(cls, inspect.iscoroutinefunction)
    if not name.startswith("_")
}
LIFECYCLE = {"init", "close", "wait_idle"}
OUTSIDE_TRANSACTIONS = {
    "background_status", "retry_failed", "extract", "extraction_status", "retry_failed_extractions", "digest",
    "import_user_data", "delete_user_data", "erase_memory", "erase_message", "erase_document", "purge_history",
}  # fmt: skip

CASES = [
    (name, parameter)
    for name in (*READS, *WRITES)
    for parameter in inspect.signature(PUBLIC[name]).parameters
    if parameter != "self" and refused(name, parameter) is not None
]


class Moody(HashEmbedding):
    """Answers wrongly as told: `mood` is applied to the true answer."""

    def __init__(self) -> None:
        super().__init__(DIMS)
        self.mood: Callable[[list[list[float]]], Any] = lambda vectors: vectors

    async def embed(self, text: str) -> list[float]:
        answer = self.mood([await super().embed(text)])
        return answer[0] if isinstance(answer, list) and answer else answer

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        return self.mood(await super().embed_batch(texts))


@pytest.fixture(scope="module")
def provider() -> Moody:
    return Moody()


@pytest.fixture(scope="module")
async def mind(database_url: str, provider: Moody, storage: FolderStorage) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(database_url, provider, storage=storage, schema="bad_input", background=False) as mind:
        yield mind


@pytest.fixture(scope="module")
async def world(mind: NeuroMemory) -> World:
    return await settle(mind, "anna")


def test_every_public_call_is_tried() -> None:
    assert {*READS, *WRITES} == PUBLIC.keys() - LIFECYCLE


async def complaints(on: Any, name: str, parameter: str, arguments: dict[str, Any]) -> list[str]:
    """What is wrong with the answers of one call to every bad value of one parameter."""
    found: list[str] = []
    for bad in refused(name, parameter) or ():
        if bad is NONE and (name, parameter) in OPTIONAL:
            continue
        try:
            answer = await call(on, name, {**arguments, parameter: bad.value})
        except bad.error as error:
            message = str(error)
            named = parameter in message or parameter in NAMES_ITS_PART
            if not named or bad.says not in message or len(message) > 500:
                found.append(f"{bad}: says {message[:300]!r}")
        except Exception as error:  # noqa: BLE001 - any other type is what this looks for
            found.append(f"{bad}: raises {type(error).__name__}: {str(error)[:200]}")
        else:
            found.append(f"{bad}: answers {answer!r:.100}")
    return found


@pytest.mark.parametrize(("name", "parameter"), CASES)
async def test_a_bad_argument_is_refused_and_nothing_is_written(
    mind: NeuroMemory, world: World, name: str, parameter: str
) -> None:
    arguments = (READS.get(name) or WRITES[name])(world)
    before = await state(mind)
    assert await complaints(mind, name, parameter, arguments) == []
    if name not in OUTSIDE_TRANSACTIONS:
        # Also when the caller shrugs the error off inside a transaction of its own and commits.
        async with mind.transaction() as tx:
            assert await complaints(tx, name, parameter, arguments) == []
    assert await state(mind) == before


PAIRS: list[tuple[str, dict[str, Any], str]] = [
    ("add_memory", {"valid_from": LONG_AGO, "valid_to": LONG_AGO}, "valid_to="),
    ("add_memory", {"valid_from": LONG_AGO, "valid_to": LONG_AGO - timedelta(1)}, "valid_to="),
    ("update_memory", {"valid_from": LONG_AGO, "valid_to": LONG_AGO}, "valid_to="),
    ("update_memory", {"known_at": LONG_AGO}, "known_at="),
    ("add_memories", {"memories": ["good", NewMemory("x", valid_from=LONG_AGO, valid_to=LONG_AGO)]}, "valid_to="),
    ("undo", {"recorded_since": None}, "origin="),
    ("graph.create_node", {"properties": {"aliases": "Annie"}}, "properties.aliases"),
    ("graph.create_node", {"properties": {"aliases": ["x", ""]}}, "properties.aliases"),
    ("graph.create_node", {"properties": {"name": 5}}, "properties.name"),
    ("graph.create_edge", {"valid_from": LONG_AGO, "valid_to": LONG_AGO}, "valid_to="),
    ("graph.update_edge", {"valid_from": LONG_AGO, "valid_to": LONG_AGO}, "valid_to="),
]


@pytest.mark.parametrize(("name", "together", "says"), PAIRS)
async def test_arguments_that_contradict_each_other_are_refused(
    mind: NeuroMemory, world: World, name: str, together: dict[str, Any], says: str
) -> None:
    before = await state(mind)
    with pytest.raises(InvalidInputError, match=says):
        await call(mind, name, {**WRITES[name](world), **together})
    assert await state(mind) == before


async def test_a_new_end_must_lie_after_the_stored_beginning(mind: NeuroMemory) -> None:
    memory = await mind.add_memory("ben", "lives in Oslo", valid_from=LONG_AGO)
    before = await state(mind)
    with pytest.raises(InvalidInputError, match="valid_to="):
        await mind.update_memory("ben", memory.memory_id, valid_to=LONG_AGO - timedelta(days=1))
    with pytest.raises(InvalidInputError, match="nothing to update"):
        await mind.update_memory("ben", memory.memory_id)
    assert await state(mind) == before


async def test_what_does_not_exist_is_not_found(mind: NeuroMemory) -> None:
    before = await state(mind)
    assert await mind.get_memory("carl", UNKNOWN) is None
    assert await mind.kv.get("profile", "carl", "city", "none") == "none"
    assert await mind.kv.delete("profile", "carl", "city") is False
    for name, more in {
        "history": {},
        "delete_memory": {},
        "update_memory": {"content": "x"},
        "revert": {"version": 1},
    }.items():
        with pytest.raises(NotFoundError, match=UNKNOWN):
            await call(mind, name, {"user_id": "carl", "memory_id": UNKNOWN, **more})
    with pytest.raises(NotFoundError, match="'s9'"):
        await mind.conversations.close_session("carl", "s9")
    assert await state(mind) == before


async def test_the_ends_of_time_and_odd_texts_are_accepted(mind: NeuroMemory) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    forever = await mind.add_memory("dora", "the sun rises 太阳升起", valid_from=first, valid_to=last)
    stored = await mind.get_memory("dora", forever.memory_id)
    assert stored is not None
    assert (stored.valid_from, stored.valid_to) == (forever.valid_from, forever.valid_to)
    for said_at in (first, last):
        await mind.ingest("dora", "user", "the sun rises 😀", timestamp=said_at)
    for query in (
        "sun",
        "!!!",
        "'",
        "\\",
        "a:* & !b | (c",
        "😀",
        "太阳",
        "NOT",
        '"open',
        "%",
        "\u200b",
        "\x01",
        "x" * 10_000,
    ):
        assert (await mind.recall("dora", query)).merged
    for moment in (first, *(datetime(year, 1, 1, tzinfo=UTC) for year in (300, 900, 1450, 1677))):
        assert (await mind.recall("dora", "sun", as_of=moment)).merged == ()
        assert (await mind.diff("dora", first, moment)).learned == ()
    assert len((await mind.recall("dora", "sun", as_of=last)).merged) == 2  # one content, one entry
    largest = await mind.add_memory("dora", "word " * 200_000, metadata={"deep": nested(30), "big": 2**63 - 1})
    assert await mind.get_memory("dora", largest.memory_id) is not None


def failing(vectors: list[list[float]]) -> Any:
    raise KeyError("no such model")


MOODS: dict[str, Callable[[list[list[float]]], Any]] = {
    "raises": failing,
    "vector of 7 numbers": lambda vectors: [vector[1:] for vector in vectors],
    "vectors for": lambda vectors: [*vectors, vectors[0]],
    "nan": lambda vectors: [[math.nan, *vector[1:]] for vector in vectors],
    "inf": lambda vectors: [[math.inf, *vector[1:]] for vector in vectors],
    "length 0": lambda vectors: [[0.0] * DIMS for _ in vectors],
    "length 2.82": lambda vectors: [[1e38] * DIMS for _ in vectors],
    "None": lambda vectors: None,
    "prose": lambda vectors: [["prose"] * DIMS for _ in vectors],
}


@pytest.mark.parametrize("says", MOODS)
async def test_a_model_that_answers_nonsense_is_named_and_nothing_is_written(
    mind: NeuroMemory, provider: Moody, world: World, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await state(mind)
    asked = ["add_memory", "add_memories", "update_memory"]
    if says != "vectors for":  # one text, one vector: no count to be wrong
        asked += ["recall", "search"]
    monkeypatch.setattr(provider, "mood", MOODS[says])
    for name in asked:
        with pytest.raises(ProviderError, match="hash-8") as caught:
            await call(mind, name, (READS.get(name) or WRITES[name])(world))
        assert (says if says != "raises" else "KeyError: 'no such model'") in str(caught.value)
    assert await state(mind) == before


def claiming(**said: Any) -> EmbeddingProvider:
    """A provider that says of itself whatever it is told."""
    return type("Claiming", (HashEmbedding,), said)(DIMS)


MADE_OF: dict[str, Sequence[Any]] = {
    "schema": ["", 5, None, "a\x00", "\ud800", "x" * 64, "é" * 32, "pg_x", "information_schema"],
    "pool_size": [0, -1, True, 1.5, "5", None, 10**6],
    "background": ["yes", 5, None],
    "ranking": ["best", 5],
    "clock": ["noon", 5],
    "file_limits": [5, "big"],
    "storage": ["folder", 5],
    "auto_extract": [None, 1, "yes"],
    "graph_enabled": [None, 1, "yes"],
    "digest": [True, 50, "daily"],
    "timezone": [None, 5, "", "a\x00", "Mars/Olympus", "Europe", "../x"],
    "embedding": ["minilm", "", 5, HashEmbedding],
    "dims": [claiming(dims=value) for value in (0, -1, 16_001, True, "8", 8.0, None)],
    "model_id": [claiming(model_id=value) for value in ("", None, 5, "a\x00", "x" * 256)],
    "database URL": ["", "x", 5, b"postgresql://x", "mysql://u@h/d", "postgresql://", "http://x/y"],
    "database_url": ["embedded://a\x00"],
}


@pytest.mark.parametrize(("what", "value"), [(what, value) for what in MADE_OF for value in MADE_OF[what]])
def test_a_mind_is_not_made_of_nonsense(what: str, value: Any) -> None:
    option = {"dims": "embedding", "model_id": "embedding", "database URL": "database_url"}.get(what, what)
    error = ConfigurationError if what == "database URL" else InvalidInputError
    with pytest.raises(error, match=what):
        NeuroMemory(**{"database_url": "postgresql://localhost/x", "embedding": HashEmbedding(DIMS), option: value})


@pytest.mark.parametrize("timeout", [-1, math.nan, "5"])
async def test_waiting_takes_seconds(mind: NeuroMemory, timeout: Any) -> None:
    with pytest.raises(InvalidInputError, match="timeout="):
        await mind.wait_idle(timeout)


def test_what_configures_is_checked_too() -> None:
    for options in ({"batch": 0}, {"attempts": 1.5}, {"lease": 0}, {"poll": math.nan}, {"backoff": -1}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            JobPolicy(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", NO_TIME)
async def test_a_view_of_the_past_needs_a_moment(mind: NeuroMemory, moment: Bad) -> None:
    with pytest.raises(InvalidInputError, match="moment"):
        mind.as_of(moment.value)
