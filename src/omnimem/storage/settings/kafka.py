"""Which Kafka, and how it is used."""

from dataclasses import dataclass, field
from typing import Any, Literal

from memground.errors import InvalidInputError
from memground.text import show
from omnimem.models.base import Value, instance, name, whole

type Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MAX_PREFIX = 200
_MAX_PARTITIONS = 1_000
_SHORTEST_SESSION, _LONGEST_SESSION = 6.0, 300.0
"""What a broker accepts unless it is told otherwise begins at 6 s."""
_SECRETS = ("password", "key_password")


@dataclass(frozen=True)
class KafkaSettings(Value):
    """The brokers, the topics, and how to get in.

    `servers`: some of the brokers, `host:port,host:port`. `prefix`: the names of topics and of the consumer group begin
    with it. `partitions`, `replication` (None: the brokers' default): of topics that are made; topics that are there
    stay as they are. `timeout`: seconds after which a broker counts as away. `session_timeout`: seconds after which the
    others no longer wait for a worker that died.

    `tls` with `ca_file` (None: the system's) and, where the brokers ask for it, `certificate_file`, `key_file`,
    `key_password`. `mechanism` with `username` and `password`: SASL. Secrets are neither shown nor in `to_dict()`.
    """

    servers: str = "127.0.0.1:9092"
    prefix: str = "omnimem"
    partitions: int = 6
    replication: int | None = None
    timeout: float = 10.0
    session_timeout: float = 10.0
    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        name(self.servers, "servers", limit=4_000)
        if "@" in self.servers or "/" in self.servers:
            raise InvalidInputError("servers must be host:port,host:port; give user and password by their own fields")
        name(self.prefix, "prefix", limit=_MAX_PREFIX)
        if not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in self.prefix):
            raise InvalidInputError(f"prefix={show(self.prefix)} is not accepted; use letters, digits, dots, _ and -")
        whole(self.partitions, "partitions", 1, _MAX_PARTITIONS)
        if self.replication is not None:
            whole(self.replication, "replication", 1, _MAX_PARTITIONS)
        _seconds(self.timeout, "timeout", 0.1, 600.0)
        _seconds(self.session_timeout, "session_timeout", _SHORTEST_SESSION, _LONGEST_SESSION)
        instance(self.tls, "tls", bool, "True or False")
        if self.mechanism is not None and self.mechanism not in _MECHANISMS:
            raise InvalidInputError(
                f"mechanism={show(self.mechanism)} is not accepted; pass one of {', '.join(_MECHANISMS)}"
            )
        if (self.mechanism is None) != (self.username is None) or (self.username is None) != (self.password is None):
            raise InvalidInputError("mechanism, username and password belong together; give all of them or none")
        if not self.tls and (self.ca_file or self.certificate_file or self.key_file):
            raise InvalidInputError("ca_file, certificate_file and key_file are for tls=True")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values, secrets left out."""
        return {key: value for key, value in super().to_dict().items() if key not in _SECRETS}

    @property
    def changes_topic(self) -> str:
        """Changes, as they were recorded."""
        return f"{self.prefix}.changes"

    @property
    def retries_topic(self) -> str:
        """Changes that failed and will be tried again."""
        return f"{self.prefix}.retries"

    @property
    def dead_letters_topic(self) -> str:
        """Changes that failed for good."""
        return f"{self.prefix}.dead-letters"

    @property
    def group(self) -> str:
        """The consumer group of the workers."""
        return f"{self.prefix}.workers"

    def client(self) -> dict[str, Any]:
        """What every client of librdkafka is given."""
        protocol = ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        given = {
            "bootstrap.servers": self.servers,
            "client.id": "omnimem",
            "security.protocol": protocol,
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
            "ssl.key.password": self.key_password,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "socket.timeout.ms": milliseconds(self.timeout),
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "allow.auto.create.topics": False,
        }
        return {key: value for key, value in given.items() if value is not None}


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000))


def _seconds(value: object, what: str, lowest: float, highest: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not lowest <= value <= highest:
        raise InvalidInputError(f"{what}={show(value)} is not accepted; pass seconds from {lowest:g} to {highest:g}")
