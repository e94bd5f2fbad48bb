"""MongoDB and Kafka that are talked to by TLS and with a password only, as managed ones are."""

from pathlib import Path

from dev.servers.kafka import KafkaServer
from dev.servers.mongodb import MongoServer
from dev.servers.server import Server
from pymongo import MongoClient

from support.tls import certificate

USER, PASSWORD = "tenant", "s3cret-pass"
_LISTENER = """
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},GUARDED://127.0.0.1:{guarded}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUARDED:SASL_SSL
listener.name.guarded.ssl.keystore.type=PEM
listener.name.guarded.ssl.keystore.location={keystore}
listener.name.guarded.sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
"""


class _Certified(Server):
    @property
    def certificate(self) -> Path:
        """What clients trust it by; beside it lies that of somebody else."""
        assert self._folder is not None
        return self._folder / "data" / "server.crt"


class SecuredMongo(_Certified, MongoServer):
    """mongod that wants TLS and the password of `USER`; `url` has both but for the certificate it is trusted by."""

    @property
    def url(self) -> str:
        return f"mongodb://{USER}:{PASSWORD}@localhost:{self.port}/?replicaSet=rs0&authSource=admin&tls=true"

    def prepare(self, program: Path, data: Path) -> None:
        _certified(data)
        (data / "key").write_text("0123456789abcdef")
        (data / "key").chmod(0o600)

    def command(self, program: Path, data: Path) -> list[str]:
        # What `answers` asks without TLS, from this machine; `login` closes that door to all that matters.
        tls = ["--tlsMode", "preferTLS", "--tlsCertificateKeyFile", str(data / "server.pem")]
        own = ["--tlsAllowConnectionsWithoutCertificates", "--tlsCAFile", str(data / "server.crt")]
        return [*super().command(program, data), *tls, *own, "--keyFile", str(data / "key")]

    def login(self) -> None:
        """Makes the login, after which nobody is let in without one."""
        with MongoClient[dict[str, object]]("127.0.0.1", self.port, directConnection=True) as client:
            client.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])


class SecuredKafka(_Certified, KafkaServer):
    """A broker whose listener at `bootstrap` wants TLS and the password of `USER` (SASL PLAIN)."""

    port_count = 3

    @property
    def bootstrap(self) -> str:
        return f"localhost:{self.ports[2]}"

    def prepare(self, program: Path, data: Path) -> None:
        super().prepare(program, data)
        _certified(data)

    def command(self, program: Path, data: Path) -> list[str]:
        command = super().command(program, data)
        broker, controller, guarded = self.ports
        given = {"broker": broker, "controller": controller, "guarded": guarded, "keystore": data / "server.pem"}
        with (data / "server.properties").open("a") as properties:
            properties.write(_LISTENER.format(**given, user=USER, password=PASSWORD))
        return command


def _certified(data: Path) -> None:
    """A key and a certificate in one file, the certificate alone, and one of somebody else's."""
    for name in ("server", "other"):
        certificate(data, name)
    (data / "server.pem").write_text((data / "server.key").read_text() + (data / "server.crt").read_text())
    (data / "server.pem").chmod(0o600)
