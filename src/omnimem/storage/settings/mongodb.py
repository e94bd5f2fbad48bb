"""Which MongoDB, and how it is used."""

import re
from dataclasses import dataclass, field

from memground.errors import ConfigurationError, InvalidInputError
from memground.text import check_text, show
from omnimem.models.base import Value, whole

_MAX_POOL = 1_000
_MAX_TIMEOUT = 3_600.0
_FORBIDDEN = set('/\\. "$*<>:|?')
_NO_DATABASES = ("admin", "local", "config")
_LOGIN = re.compile(r"^([a-z+]{0,20}://)[^@]*@")


@dataclass(frozen=True)
class MongoSettings(Value):
    """The replica set or sharded cluster that keeps the truth.

    `url`: `mongodb://` or `mongodb+srv://`, with its options (login, TLS, replica set). `database`: whose collections
    are used. `pool_size`: connections at most. `timeout`: seconds after which a server that does not answer counts as
    away, and a transaction that others are in the way of is given up.

    Raises ConfigurationError for an address that is not understood, InvalidInputError for other values.
    """

    url: str = field(default="mongodb://127.0.0.1:27017", repr=False)
    database: str = "omnimem"
    pool_size: int = 100
    timeout: float = 30.0

    def __post_init__(self) -> None:
        check_text(self.url, "the MongoDB address", limit=10_000)
        if not self.url.startswith(("mongodb://", "mongodb+srv://")):
            raise ConfigurationError(
                f"the MongoDB address {_LOGIN.sub(r'\1***@', self.url)[:80]!r} is not understood; "
                "accepted: mongodb://user:password@host:port/?replicaSet=rs0, or mongodb+srv://…"
            )
        name = check_text(self.database, "database", limit=63)
        if len(name.encode()) > 63 or set(name) & _FORBIDDEN or name in _NO_DATABASES:
            raise InvalidInputError(
                f"database={show(name)} is no name of a database of yours; accepted: up to 63 bytes, without "
                'spaces and / \\ . " $ * < > : | ?'
            )
        whole(self.pool_size, "pool_size", 1, _MAX_POOL)
        seconds = self.timeout
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _MAX_TIMEOUT:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"timeout={show(seconds)} is not accepted; pass seconds above 0, up to {_MAX_TIMEOUT:,g}"
            )
