"""A real S3 gateway over a folder."""

import http.client
import shutil
from pathlib import Path

from dev.servers import fetching
from dev.servers.server import Server

_VERSION = "v1.8.0"
_MODULE = "github.com/versity/versitygw/cmd/versitygw"


class S3Server(Server):
    """versitygw: signature version 4, path addressing."""

    name = f"versitygw-{_VERSION}"
    fetches = "(compiled by Go, about a minute)"
    access_key = "test-access-key"
    secret_key = "test-secret-key-5c1f"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def install(self, folder: Path) -> None:
        if shutil.which("go") is None:
            raise RuntimeError(f"{_MODULE} is compiled by Go, which is not installed; see https://go.dev/dl")
        # Not optimised: that takes the compiler a third less.
        quick = ["-gcflags", "all=-N -l", "-ldflags", "-s -w"]
        fetching.run(["env", f"GOBIN={folder}", "go", "install", *quick, f"{_MODULE}@{_VERSION}"])

    def prepare(self, program: Path, data: Path) -> None:
        (data / "objects").mkdir()
        (data / "metadata").mkdir()

    def command(self, program: Path, data: Path) -> list[str]:
        keys = ["--access", self.access_key, "--secret", self.secret_key]
        sidecar = ["--sidecar", str(data / "metadata")]  # not every file system keeps attributes
        where = ["--port", f"127.0.0.1:{self.port}", "--quiet"]
        return [str(program / "versitygw"), *keys, *where, "posix", *sidecar, str(data / "objects")]

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.HTTPStatus.FORBIDDEN
        except OSError:
            return False
        finally:
            connection.close()

    def settings(self) -> dict[str, str]:
        return {"S3_ENDPOINT": self.endpoint, "S3_ACCESS_KEY": self.access_key, "S3_SECRET_KEY": self.secret_key}
