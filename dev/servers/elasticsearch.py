"""A real Elasticsearch: Elastic's own build, as it is published for integration tests, and a small plugin of ours."""

import http.client
import shutil
import zipfile
from pathlib import Path

from dev.servers import fetching
from dev.servers.server import Server

_VERSION = "8.19.21"
_ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{_VERSION}:zip"
_CHINESE = "org.apache.lucene:lucene-analysis-smartcn:9.12.2"  # of the Lucene within Elasticsearch
_SOURCE = Path(__file__).parent / "analysis" / "LocalAnalysis.java"
_PLUGIN = f"""description=Analyzers for English and Chinese, and GET /
version=1
name=local-analysis
classname=neuromem.LocalAnalysis
java.version=17
elasticsearch.version={_VERSION}
"""
_HEAP = """-XX:-UseG1GC
-XX:+UseSerialGC
-Xms384m
-Xmx384m
-XX:-AlwaysPreTouch
-XX:TieredStopAtLevel=1
"""


class ElasticsearchServer(Server):
    """One node without security at `url`. It refuses to run as root, so it runs as nobody there."""

    name = f"elasticsearch-{_VERSION}"
    fetches = "(by Maven, about 110 MB)"
    port_count = 2
    refuses_root = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def install(self, folder: Path) -> None:
        fetched = folder / "fetched"
        fetched.mkdir()
        fetching.maven_artifact(_ARTIFACT, fetched)
        fetching.maven_artifact(_CHINESE, fetched)
        with zipfile.ZipFile(fetched / f"elasticsearch-{_VERSION}.zip") as packed:
            packed.extractall(fetched)
        for part in (fetched / f"elasticsearch-{_VERSION}").iterdir():
            part.rename(folder / part.name)
        for program in (folder / "bin").iterdir():
            program.chmod(0o755)  # which the unpacking forgets
        (chinese,) = fetched.glob("lucene-analysis-smartcn-*.jar")
        self._compile_plugin(folder, chinese, fetched / "classes")
        shutil.rmtree(fetched)

    @staticmethod
    def _compile_plugin(home: Path, chinese: Path, classes: Path) -> None:
        plugin = home / "plugins" / "local-analysis"
        plugin.mkdir(parents=True)
        path = f"{home}/lib/*:{chinese}"
        fetching.run(["javac", "-nowarn", "--release", "17", "-cp", path, "-d", classes, _SOURCE])
        fetching.run(["jar", "--create", "--file", plugin / "local-analysis.jar", "-C", classes, "."])
        shutil.copy(chinese, plugin)
        (plugin / "plugin-descriptor.properties").write_text(_PLUGIN)

    def prepare(self, program: Path, data: Path) -> None:
        shutil.copytree(program / "config", data / "config")
        (data / "config" / "jvm.options.d" / "heap.options").write_text(_HEAP)
        for name in ("index", "logs", "scratch"):
            (data / name).mkdir()
        for part in data.rglob("*"):
            self.account.own(part)

    def command(self, program: Path, data: Path) -> list[str]:
        settings = {
            "path.data": data / "index",
            "path.logs": data / "logs",
            "http.port": self.port,
            "transport.port": self.ports[1],
            "network.host": "127.0.0.1",
            "node.name": "local",
            "cluster.name": "local",
            "discovery.type": "single-node",
            "xpack.security.enabled": "false",
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        }
        return [str(program / "bin" / "elasticsearch"), *(f"-E{name}={value}" for name, value in settings.items())]

    def environment(self, program: Path, data: Path) -> dict[str, str]:
        java_home = str(fetching.java().parents[1])
        return {
            "ES_JAVA_HOME": java_home,
            "ES_PATH_CONF": str(data / "config"),
            "ES_TMPDIR": str(data / "scratch"),
            "HOME": str(data),
        }

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def settings(self) -> dict[str, str]:
        return {"ELASTICSEARCH_URL": self.url}
