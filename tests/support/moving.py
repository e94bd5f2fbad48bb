"""Exports, as they are and as somebody would forge them."""

import json
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

from neuromem import NeuroMemory
from neuromem.services.export_records import FORMAT, VERSION, Checksum

type Exported = list[dict[str, Any]]

LONG_AGO = "2020-01-01T00:00:00+00:00"


async def records_of(mind: NeuroMemory, user: str, **options: Any) -> Exported:
    """An export, gone through JSON as through a file."""
    return [json.loads(json.dumps(record)) async for record in mind.export_user_data(user, **options)]


def sealed(records: Iterable[dict[str, Any]]) -> Exported:
    """The records with the counts and the checksum they should have: for those that were changed by hand."""
    header, *rows = [record for record in records if record.get("record") != "end"]
    counts = Counter(row["table"] for row in rows if isinstance(row.get("table"), str))
    checksum = Checksum()
    sealed = [{**header, "rows": dict(counts)}, *rows]
    for record in sealed:
        checksum.add(record)
    end = {"record": "end", "records": len(sealed) + 1, "rows": dict(counts), "sha256": str(checksum)}
    return [*sealed, end]


def version_of(**values: Any) -> dict[str, Any]:
    """A version row's own columns, and `values`."""
    return {
        "id": str(uuid.uuid4()),
        "version": 1_577_836_800_000_000_000,
        "known_from": LONG_AGO,
        "known_to": None,
        "recorded_at": LONG_AGO,
        "origin": "agent",
        "closed_origin": None,
        "created_at": LONG_AGO,
        **values,
    }


def row(table: str, **values: Any) -> dict[str, Any]:
    return {"record": "row", "table": table, "values": values}


def small_export(user: str = "anna", **header: Any) -> Exported:
    """A memory and a profile value of somebody, with ids nobody has; without vectors."""
    first = {
        "record": "header", "format": FORMAT, "version": VERSION, "user_id": user, "exported_at": LONG_AGO,
        "model": "another", "dims": 8, "revision": "0001", "vectors": False, **header,
    }  # fmt: skip
    memory = version_of(
        memory_id=str(uuid.uuid4()), user_id=user, content="likes tea", memory_type="general", metadata_={},
        importance=5, valid_from=None, valid_to=None, event_at=LONG_AGO,
    )  # fmt: skip
    entry = version_of(entry_id=str(uuid.uuid4()), namespace="profile", scope_id=user, key="city", value="Porto")
    return sealed([first, row("embeddings", **memory), row("key_values", **entry)])
