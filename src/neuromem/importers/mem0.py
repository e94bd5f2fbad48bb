"""mem0's memories: what `get_all` returns, as JSON, or the `memories.json` of OpenMemory.

The text is the one a memory has had since it was last updated, so that is when it became known.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, BinaryIO

from neuromem.importers.items import Item, Remark, as_dict, digest, fact, identifier, moment
from neuromem.importers.reading import Reading, records
from neuromem.types import NewMemory

_KEPT = ("categories", "agent_id", "app_id", "run_id", "actor_id", "role", "created_at", "structured_attributes")
_GONE = frozenset({"deleted", "archived"})


def items(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """Every memory as a fact."""
    for number, found in enumerate(records(stream, reading), start=1):
        raw, place = as_dict(found), f"{reading.name}: memory {number}"
        content = raw.get("memory") or raw.get("content") or raw.get("text")
        if raw.get("state") in _GONE:
            yield Remark(f"{raw['state']} in mem0", place)
            continue
        times: dict[str, datetime | None] = {}
        for name in ("created_at", "updated_at", "expiration_date"):
            try:
                times[name] = moment(raw.get(name))
            except ValueError:
                yield Remark("time not understood", f"{place}: {str(raw[name])[:40]!r}", lost=False)
        owner = identifier(raw.get("user_id"))
        name = identifier(raw.get("id")) or digest(owner, str(content))
        new = NewMemory(
            content=content,  # pyright: ignore[reportArgumentType]  # `fact` looks at what it is
            metadata=_metadata(raw),
            valid_to=times.get("expiration_date"),
            known_at=times.get("updated_at") or times.get("created_at"),
            external_id=f"mem0:{name}"[:255],
        )
        yield from fact(place, new, owner)


def _metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    own = as_dict(raw.get("metadata")) or as_dict(raw.get("metadata_"))
    kept = {name: raw[name] for name in _KEPT if raw.get(name) not in (None, "", [], {})}
    return {**kept, **own}
