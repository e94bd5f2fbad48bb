"""A real Kafka: one node that is broker and controller (KRaft)."""

import base64
import shutil
import socket
import struct
import uuid
from pathlib import Path

from dev.servers import fetching
from dev.servers.server import Server

_VERSION = "4.3.1"
_ARTIFACTS = (f"org.apache.kafka:kafka_2.13:{_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4")
_JVM = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
_LOGGING = """Configuration:
  Appenders: {Console: {name: console, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: console}}}
"""
# One node holds every copy; few partitions of its own topics start faster; a first group does not wait for members.
_SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}
num.partitions=3
num.network.threads=2
num.io.threads=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
"""
# A request for metadata of no topic, version 1: length, kind, version, number, no name of a client, an empty list.
_METADATA = struct.pack("!ihhihi", 14, 3, 1, 1, -1, 0)


class KafkaServer(Server):
    """A broker at `bootstrap`, without security."""

    name = f"kafka-{_VERSION}"
    fetches = "(by Maven, about 45 MB)"
    port_count = 2

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def install(self, folder: Path) -> None:
        """The libraries, and a formatted folder: what formatting writes depends on nothing that a start chooses."""
        libraries = folder / "lib"
        libraries.mkdir()
        fetching.maven_libraries(_ARTIFACTS, libraries)
        (folder / "log4j2.yaml").write_text(_LOGGING)
        properties = folder / "format.properties"
        properties.write_text(_SETTINGS.format(broker=1, controller=2, folder=folder / "formatted"))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        fetching.run([*self._java(folder), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties])
        properties.unlink()

    def prepare(self, program: Path, data: Path) -> None:
        shutil.copytree(program / "formatted", data / "log")

    def command(self, program: Path, data: Path) -> list[str]:
        broker, controller = self.ports[:2]
        properties = data / "server.properties"
        properties.write_text(_SETTINGS.format(broker=broker, controller=controller, folder=data / "log"))
        return [*self._java(program), "kafka.Kafka", str(properties)]

    @staticmethod
    def _java(program: Path) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={program / 'log4j2.yaml'}"
        return [str(fetching.java()), *_JVM, logging, "-cp", f"{program / 'lib'}/*"]

    def answers(self) -> bool:
        """Whether it names itself as a broker, which it does once clients may use it."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(_METADATA)
                answer = connection.recv(12, socket.MSG_WAITALL)  # length, number, how many brokers follow
        except OSError:
            return False
        return len(answer) == 12 and struct.unpack("!iii", answer)[2] > 0

    def settings(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP": self.bootstrap}
