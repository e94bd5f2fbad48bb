"""What reading a file may cost at most."""

from dataclasses import dataclass, fields

from memground.errors import InvalidInputError
from memground.text import show


@dataclass(frozen=True, slots=True)
class FileLimits:
    """A file beyond any of these is refused with a message that names the limit.

    `bytes`: of the file. `pages`: of a PDF. `characters`: of the text in it. `seconds`: for reading it. `expanded`:
    bytes it may unpack to, for files that are archives (Word). `memory`: bytes of address space of the process that
    reads it, at least 100 MB, for it needs half of that for itself; enforced where the system can (Linux).
    """

    bytes: int = 50_000_000
    pages: int = 2_000
    characters: int = 10_000_000
    seconds: float = 60
    expanded: int = 200_000_000
    memory: int = 1_000_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind = int | float if field.name == "seconds" else int
            if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value <= 2**53:
                accepted = "number" if field.name == "seconds" else "whole number"
                raise InvalidInputError(
                    f"FileLimits.{field.name}={show(value)} is not accepted; pass a {accepted} above 0"
                )
        if self.memory < _LEAST_MEMORY:
            raise InvalidInputError(
                f"FileLimits.memory={self.memory:,} is not accepted; pass {_LEAST_MEMORY:,} or more"
            )

    def check(self, name: str, found: float, what: str) -> None:
        """Refuse what goes beyond the limit called `name`; `what` is a sentence's beginning: "a.pdf has", say."""
        limit = getattr(self, name)
        if found > limit:
            raise InvalidInputError(
                f"{what} {found:,} {_UNITS[name]}; at most {limit:,} are read (FileLimits({name}=…) allows more)"
            )


_LEAST_MEMORY = 100_000_000
_UNITS = {"bytes": "bytes", "pages": "pages", "characters": "characters of text", "expanded": "bytes"}
