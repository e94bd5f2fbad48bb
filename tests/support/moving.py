"""Exports, as they are and as somebody would forge them."""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

from neuromem import NeuroMemory
from neuromem.services.export_records import FORMAT, VERSION, Checksum
from neuromem.services.object_records import object_records

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
    end = {"record": "end", "records": len(sealed) + 1, "rows": dict(counts), "objects": header.get("objects")}
    return [*sealed, {**end, "sha256": str(checksum)}]


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


def document_of(user: str, data: bytes, key: str, **values: Any) -> dict[str, Any]:
    """A row of a document whose bytes are stored, of no passages."""
    named = {"document_id": str(uuid.uuid4()), "user_id": user, "filename": "a.txt", "object_key": key}
    about = {"file_type": "text", "mime_type": "text/plain", "source_type": "upload", "category": "general"}
    bytes_ = {"file_size": len(data), "content_hash": hashlib.sha256(data).hexdigest()}
    more = {"metadata_": {}, "tags": [], "warnings": [], "page_count": 1, "chunk_count": 0, "extracted_text": "a"}
    return row("documents", **version_of(**{**named, **about, **bytes_, **more, **values}))


def export_with_files(user: str, *files: bytes) -> Exported:
    """An export of nothing but files, called k1, k2 …"""
    header = {**small_export(user)[0], "objects": len(files)}
    named = {f"k{number}": data for number, data in enumerate(files, 1)}
    rows = [document_of(user, data, key) for key, data in named.items()]
    return sealed([header, *rows, *(record for key, data in named.items() for record in object_records(key, data))])
