"""What a reader is told about the file it reads, and JSON that is larger than memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import ijson  # pyright: ignore[reportMissingTypeStubs]

from neuromem.errors import InvalidInputError

type Root = Literal["array", "object", "lines"]


@dataclass(frozen=True, slots=True)
class Reading:
    """`name`: the file's, for messages. `stem`: the session of messages that name none. `root`: what the file is.
    `prefix`: where the records lie in it, as ijson writes it. `tools`: whether calls of tools are read, too."""

    name: str
    stem: str
    root: Root = "array"
    prefix: str = "item"
    tools: bool = False


def records(stream: BinaryIO, reading: Reading) -> Iterator[Any]:
    """The records one after the other; raises InvalidInputError where the JSON breaks."""
    count = 0
    try:
        for record in ijson.items(stream, reading.prefix, use_float=True):
            yield record
            count += 1
    except ijson.JSONError as error:
        where = f"after {count:,} records" if count else "at its beginning"
        reason = "ends too early" if "EOF" in str(error) else str(error).splitlines()[0].strip().lstrip("b'")
        raise InvalidInputError(
            f"{reading.name} is broken JSON {where} ({reason}); what stands before was read. Is it whole?"
        ) from None
