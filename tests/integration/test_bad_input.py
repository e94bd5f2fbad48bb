"""Every public call checks its input and raises one of the tree; nothing half-written."""

import base64
import inspect
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from neuromem import (
    F,
    InvalidInputError,
    MemoryStoreError,
    NeuroMemory,
    NewMemory,
    NewMessage,
    NotFoundError,
    Source,
)
from neuromem.facades import ConversationsFacade, KVFacade
from support.calls import READS, WRITES, World, call, settle, state
from support.embeddings import HashEmbedding

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
    Bad(HUGE, "10,000,000 characters"),
    Bad(list(range(1_000_001)), "larger than 1,000,000"),
]

NO_NUMBERS = [
    Bad([math.nan] * DIMS, "NaN or infinity"),
    Bad([math.inf] * DIMS, "NaN or infinity"),
    Bad([10**400] * DIMS, f"a list of {DIMS} numbers"),
    Bad([1e300] * DIMS, "single precision"),
    Bad([1e-300] * DIMS, "single precision"),
    Bad([0.0] * DIMS, "zero"),
    Bad([1.0] * (DIMS - 1), f"{DIMS - 1} numbers"),
    Bad([1.0] * (DIMS + 1), f"{DIMS + 1} numbers"),
    Bad([], "0 numbers"),
    Bad("x" * DIMS, "got str"),
    Bad([[1.0]] * DIMS, f"a list of {DIMS} numbers"),
    Bad([None] * DIMS, f"a list of {DIMS} numbers"),
    Bad(5, "got int"),
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


NO_CURSOR = [
    Bad(value, "cursor=")
    for value in (
        "", "x", "é", "\ud800", 5, b"x", ["x"], HUGE, packed([1]), packed({"a": 1}), packed(["a", "b"]), packed([1, "b"]),
        packed([2**63, str(uuid.UUID(int=0))]), packed([math.inf, str(uuid.UUID(int=0))]), packed([1, 2]),
    )
]  # fmt: skip

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
NO_SOURCES = [
    Bad("x", "'x'"),
    Bad(5, "5"),
    Bad(["x"], "'x'"),
    Bad([5], "5"),
    Bad([None], "None"),
    Bad([b"x"], "b'x'"),
    Bad([str(uuid.UUID(int=7))], str(uuid.UUID(int=7)), NotFoundError),
    Bad([uuid.UUID(int=7)], str(uuid.UUID(int=7)), NotFoundError),
    Bad([Source("document", str(uuid.UUID(int=7)))], str(uuid.UUID(int=7)), NotFoundError),
    Bad([Source("web", str(uuid.UUID(int=7)))], "'web'"),  # type: ignore[arg-type]
    Bad([Source("message", "x")], "'x'"),
    Bad([Source("message", str(uuid.UUID(int=7)), {"a": {1}})], "a set"),
    Bad([Source("message", str(uuid.UUID(int=7)), 5)], "got int 5"),  # type: ignore[arg-type]
]
METADATA = [
    *(Bad(value, f"got {type(value).__name__} {value!r}") for value in ("x", 5, [1], b"x", True)),
    Bad(nested(5000), "got list"),
    *(Bad({"a": bad.value}, bad.says) for bad in NO_JSON),
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
    "cursor": NO_CURSOR,
    "limit": NO_LIMIT,
    "after": NO_PLACE,
    "version": NO_VERSION,
    "importance": NO_IMPORTANCE,
    "metadata": METADATA,
    "value": NO_JSON,
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
    "timestamp": NO_TIME,
    "as_of": NO_TIME,
    "valid_at": NO_TIME,
    "valid_from": NO_TIME,
    "valid_to": NO_TIME,
    "recorded_since": NO_TIME,
    "t1": [NONE, *NO_TIME],
    "t2": [NONE, *NO_TIME, Bad(datetime(2019, 1, 1, tzinfo=UTC), "lies before")],
    "to_time": [NONE, *NO_TIME, Bad(SOON, "future")],
    "known_at": [*NO_TIME, Bad(SOON, "future")],
    "memories": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, 5)),
        Bad("x", "str"),
        *(Bad(["good", value], f"got {type(value).__name__} {value!r}") for value in (None, 5, b"x", ["x"], {"a": 1})),
        *(Bad(["good", bad.value], bad.says) for bad in bad_texts() if isinstance(bad.value, str)),
        Bad(["good", NewMemory("x", importance=11)], "importance=11"),
        Bad(["good", NewMemory("x", sources=[uuid.UUID(int=7)])], str(uuid.UUID(int=7)), NotFoundError),
    ],
    "messages": [
        *(Bad(value, f"got {type(value).__name__}") for value in (None, 5)),
        *(Bad([NewMessage("user", "good"), value], f"got {type(value).__name__} {value!r}") for value in (None, 5, "x")),
        *(Bad([NewMessage("user", "good"), NewMessage("user", bad.value)], bad.says) for bad in bad_texts()),
        Bad([NewMessage("user", "good"), NewMessage("user", "x", timestamp=NAIVE)], "no timezone"),
    ],
    "default": None,
    "include_conversations": None,
    "explain": None,
}

# Messages of these name the path, the operator or the item instead of the argument that holds it.
NAMES_ITS_PART = frozenset({"where", "memories", "messages", "values", "sources"})

PUBLIC = {
    **{prefix + name: function
       for prefix, cls in (("", NeuroMemory), ("kv.", KVFacade), ("conversations.", ConversationsFacade))
       for name, function in inspect.getmembers(cls, inspect.iscoroutinefunction) if not name.startswith("_")},
}  # fmt: skip
LIFECYCLE = {"init", "close", "wait_idle"}

CASES = [
    (name, parameter)
    for name in (*READS, *WRITES)
    for parameter in inspect.signature(PUBLIC[name]).parameters
    if parameter != "self" and REFUSED[parameter] is not None
]


@pytest.fixture(scope="module")
async def mind(database_url: str):
    async with NeuroMemory(database_url, HashEmbedding(DIMS), schema="bad_input", background=False) as mind:
        yield mind


@pytest.fixture(scope="module")
async def world(mind: NeuroMemory) -> World:
    return await settle(mind, "anna")


def test_every_public_call_is_tried() -> None:
    assert {*READS, *WRITES} == PUBLIC.keys() - LIFECYCLE


async def complaints(on: Any, name: str, parameter: str, arguments: dict[str, Any]) -> list[str]:
    """What is wrong with the answers of one call to every bad value of one parameter."""
    found: list[str] = []
    for bad in REFUSED[parameter] or ():
        try:
            answer = await call(on, name, {**arguments, parameter: bad.value})
        except bad.error as error:
            message = str(error)
            named = parameter in message or parameter in NAMES_ITS_PART
            if not named or bad.says not in message or len(message) > 500:
                found.append(f"{bad}: says {message[:300]!r}")
        except Exception as error:  # any other type is what this looks for
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
    # Also when the caller shrugs the error off inside a transaction of its own and commits.
    if hasattr(mind, name.partition(".")[0]) and name not in ("background_status", "retry_failed"):
        async with mind.transaction() as tx:
            assert await complaints(tx, name, parameter, arguments) == []
    assert await state(mind) == before
