"""A record as a document of `memories`, and back."""

from collections.abc import Mapping
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from memground.errors import InvalidInputError
from memground.text import show
from omnimem.models.scope import DIMENSIONS
from omnimem.storage.base import StoredRecord
from omnimem.storage.flat import flatten
from omnimem.storage.mongodb.coding import Document, has_coded_keys, read_time, read_value, write_time, write_value

MAX_BYTES = 16 * 1024 * 1024 - 1024
"""Of one document: what MongoDB takes, less the room to mark it as superseded."""
_JSON = ("data", "content_schema", "metadata")
"""Whose keys are the user's."""
_TIMES = ("created_time", "superseded_time", "event_time", "valid_time_from", "valid_time_to")
_CODED = "has_coded_keys"
_ABSENT: Mapping[str, Any] = dict.fromkeys(
    (*(f"scope_{d}" for d in DIMENSIONS), "text", "data", "content_schema", *_TIMES)
)
"""What a document has not where it is None."""


def write_document(record: StoredRecord) -> RawBSONDocument:
    """The document of a record. Raises InvalidInputError where MongoDB keeps none as large."""
    document: Document = {"_id": record.memory.record_id}
    for name, value in flatten(record).items():
        if value is None or (name == "scope_tags" and not value):
            continue
        if name in _TIMES:
            document[name] = write_time(value)
        else:
            document[name] = write_value(value) if name in _JSON else value
    if any(has_coded_keys(document.get(name)) for name in _JSON):
        document[_CODED] = True
    encoded = bson.encode(document)
    if len(encoded) > MAX_BYTES:
        raise InvalidInputError(
            f"memory {show(record.memory.memory_id)} takes {len(encoded):,} bytes in MongoDB, which keeps at most "
            f"{MAX_BYTES:,} in one document; keep large data elsewhere and name it by sources"
        )
    return RawBSONDocument(encoded)


def read_document(document: Document) -> dict[str, Any]:
    """The fields of a record, as `flatten` has them."""
    fields: dict[str, Any] = {**_ABSENT, "scope_tags": [], **document}
    for name in _TIMES:
        if fields[name] is not None:
            fields[name] = read_time(fields[name])
    if _CODED in fields:
        for name in _JSON:
            fields[name] = read_value(fields[name])
    return fields
