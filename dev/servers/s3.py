"""A real S3 gateway over a folder."""

import http.client
import os
import shutil
import subprocess
from pathlib import Path

from dev.servers.server import Server

_VERSION = "v1.8.0"
_MODULE = "github.com/versity/versitygw/cmd/versitygw"


class S3Server(Server):
    """versitygw: signature version 4, path addressing."""

    name = f"versitygw-{_VERSION}"
    access_key = "test-access-key"
    secret_key = "test-secret-key-5c1f"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def install(self, folder: Path) -> None:
        if shutil.which("go") is None:
            raise RuntimeError(f"{_MODULE} is compiled by Go, which is not installed; see https://go.dev/dl")
        done = subprocess.run(
            ["go", "install", f"{_MODULE}@{_VERSION}"],
            env={**os.environ, "GOBIN": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"Go could not install {_MODULE}@{_VERSION}:\n{done.stderr[-2000:]}")

    def command(self, program: Path, data: Path) -> list[str]:
        keys = ["--access", self.access_key, "--secret", self.secret_key]
        sidecar = data.parent / "metadata"  # not every file system keeps attributes
        sidecar.mkdir()
        where = ["--port", f"127.0.0.1:{self.port}", "--quiet"]
        return [str(program / "versitygw"), *keys, *where, "posix", "--sidecar", str(sidecar), str(data)]

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
