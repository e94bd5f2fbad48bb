"""Where Elasticsearch is and how it is used."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from memground.errors import InvalidInputError
from memground.text import show
from omnimem.models.base import Value, name, optional_name, whole

_PREFIX = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_INTERVAL = re.compile(r"-1|[1-9][0-9]{0,5}(?:ms|s|m)")


@dataclass(frozen=True)
class ElasticsearchSettings(Value):
    """Which Elasticsearch keeps the words of memories.

    `url`: http or https, several nodes of one cluster separated by commas. `username` and `password`, or `api_key`;
    `ca_certs`: a file of the authorities that signed the server's certificate, None for the system's. `prefix`: of the
    names of all indexes. `timeout`: seconds an answer may take. `shards`, `replicas`, `refresh_interval`, `fields` and
    `nested_fields` (how many the mapping has at most; what is beyond is still found) hold for indexes made from now on.
    """

    url: str = field(default="http://127.0.0.1:9200", repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    ca_certs: str | None = None
    prefix: str = "omnimem"
    timeout: float = 30.0
    shards: int = 1
    replicas: int = 1
    refresh_interval: str = "1s"
    fields: int = 2_000
    nested_fields: int = 100

    def __post_init__(self) -> None:
        for address in name(self.url, "elasticsearch.url", limit=2_000).split(","):
            _check_address(address.strip())
        for key in ("username", "password", "api_key", "ca_certs"):
            optional_name(getattr(self, key), f"elasticsearch.{key}", limit=4_000)
        if self.api_key is not None and self.username is not None:
            raise InvalidInputError("elasticsearch has both a username and an api_key; pass one of them")
        if (self.username is None) != (self.password is None):
            raise InvalidInputError("elasticsearch needs username and password together")
        if not _PREFIX.fullmatch(name(self.prefix, "elasticsearch.prefix")):
            raise InvalidInputError(
                f"elasticsearch.prefix={show(self.prefix)} is not accepted; pass lower case letters, digits, - and _, "
                "such as omnimem"
            )
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not 0 < self.timeout <= 3_600:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"elasticsearch.timeout={show(self.timeout)} is not accepted; pass 0 to 3,600 s")
        if not _INTERVAL.fullmatch(name(self.refresh_interval, "elasticsearch.refresh_interval")):
            raise InvalidInputError(
                f"elasticsearch.refresh_interval={show(self.refresh_interval)} is not accepted; pass such as 1s, or -1"
            )
        whole(self.shards, "elasticsearch.shards", 1, 1_024)
        whole(self.replicas, "elasticsearch.replicas", 0, 100)
        whole(self.fields, "elasticsearch.fields", 100, 100_000)
        whole(self.nested_fields, "elasticsearch.nested_fields", 0, 10_000)

    @property
    def addresses(self) -> list[str]:
        """The nodes, as `scheme://host:port/path` without a password."""
        return [_plain(address.strip()) for address in self.url.split(",")]

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password, given apart or in the first address."""
        if self.username is not None and self.password is not None:
            return self.username, self.password
        parts = urlsplit(self.url.split(",")[0].strip())
        return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None

    @property
    def location(self) -> str:
        """Where it is, for messages."""
        return ",".join(self.addresses)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise InvalidInputError(
            "elasticsearch.url holds an address that is none; pass such as https://search.example.org:9200"
        )


def _plain(address: str) -> str:
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 9200)
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
