"""Which MongoDB, and how it is used."""

from dataclasses import dataclass, field

from memground.errors import InvalidInputError
from memground.text import show
from omnimem.models.base import Value, name, whole

MAX_POOL = 1_000
MAX_TIMEOUT = 3_600.0


@dataclass(frozen=True)
class MongoSettings(Value):
    """The replica set or sharded cluster that keeps the truth.

    `url`: `mongodb://` or `mongodb+srv://`, with its options (login, TLS, replica set). `database`: whose collections
    are used. `pool_size`: connections at most. `timeout`: seconds after which a server that does not answer counts as
    away.
    """

    url: str = field(default="mongodb://127.0.0.1:27017", repr=False)
    database: str = "omnimem"
    pool_size: int = 100
    timeout: float = 30.0

    def __post_init__(self) -> None:
        name(self.url, "mongodb.url", limit=4_000)
        name(self.database, "mongodb.database", limit=63)
        whole(self.pool_size, "mongodb.pool_size", 1, MAX_POOL)
        seconds = self.timeout
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TIMEOUT:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"mongodb.timeout={show(seconds)} is not accepted; pass 0 to {MAX_TIMEOUT:g} s")
