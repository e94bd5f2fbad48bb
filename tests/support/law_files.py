"""The files' part of the as-of law: acts that write documents, and reads of them."""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

from memground.errors import NotFoundError
from neuromem import F
from neuromem.services.search import external_key

KINDS = ("file", "file", "file past", "file change", "unfile")
NAMES = tuple(f"file {name} {word}" for name in range(3) for word in range(2))
CATEGORIES = ("general", "travel")


def _name(act: Any) -> str:
    return NAMES[act.pick % len(NAMES)]


def _text(name: str) -> str:
    return f"{('porto', 'tea', 'rain')[int(name[5])]} anna {name[7]}. " * (1 + 60 * int(name[7]))


async def file(life: Any, act: Any) -> Any:
    name = _name(act)
    stored = await life.mind.files.create_from_text(
        life.user,
        name,
        _text(name),
        tags=[f"t{act.word % 3}"],
        metadata={"word": act.word % 2},
        known_at=act.past if act.kind == "file past" else None,
        origin=act.origin,
    )
    if stored.stored_before:
        return None
    life.ids[name] = stored.document_id
    for number in range(1, stored.chunks + 1):
        life.learned[str(external_key(life.user, f"{stored.document_id}/{number}"))] = f"passage {number} of {name}"
    return replace(act, known=stored.known_from)


async def change(life: Any, act: Any) -> Any:
    changes: Mapping[str, Any] = (
        {"tags": [f"t{act.word % 2}"]},
        {"category": CATEGORIES[act.word % 2]},
        {"metadata": {"word": act.word % 3}},
    )[act.word % 3]
    stored = await life.mind.files.update(life.user, life.id(_name(act)), **changes, origin=act.origin)
    return act if stored.recorded_at == act.at else None


async def unfile(life: Any, act: Any) -> Any:
    await life.mind.files.delete(life.user, life.id(_name(act)), origin=act.origin)
    return act


ACTS: Mapping[str, Any] = {"file": file, "file past": file, "file change": change, "unfile": unfile}


def reads(on: Any, life: Any, nowhere: str, *, content_only: bool) -> dict[str, Awaitable[Any]]:
    """What is said of files, as results that are still to be awaited."""
    files, user = on.files, life.user

    async def listed(**narrow: Any) -> Any:
        return list((await files.list(user, limit=1_000, **narrow)).items)

    async def passages(query: str, **narrow: Any) -> Any:
        hits = await files.search(user, query, limit=1_000, **narrow)
        exact = query == nowhere
        return [[h.document, h.memory, h.page, h.start, h.end, h.score if exact else None] for h in hits]

    async def text(name: str) -> Any:
        try:
            return await files.get_text(user, life.ids[name]) if name in life.ids else None
        except NotFoundError:
            return None

    async def history(name: str) -> Any:
        try:
            return await files.history(user, life.ids[name]) if name in life.ids else []
        except NotFoundError:
            return []

    found: dict[str, Awaitable[Any]] = {
        "list": listed(),
        "list by tag": listed(tags=["t1"]),
        "list where": listed(where=F("metadata.word") == 1),
        "passages": passages(nowhere),
        "passages by word": passages("tea anna", category="general"),
        "passages by tag": passages(nowhere, tags=["t0"], file_type="text"),
        **{f"text of {name}": text(name) for name in NAMES},
    }
    if not content_only:
        found |= {f"history of {name}": history(name) for name in NAMES}
    return found
