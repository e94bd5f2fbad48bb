"""One server for all processes of a run: started for the first, ended after the last, killed ones included.

A keeper, a process of its own, starts the server and holds it as long as somebody holds a lock on ``users``, shared.
The kernel takes back the locks of the dead, so there is nothing to count and nothing to forget.
"""

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.servers.fleet import SERVERS
from dev.servers.server import Server, locked

_ROOT = Path(__file__).parents[2]


@contextmanager
def shared[S: Server](kind: type[S], folder: Path) -> Iterator[S]:
    """The server that all who give the same folder share. It can be talked to, not stopped.

    Raises `RuntimeError` with what the keeper said when the server does not start.
    """
    name = next(name for name, known in SERVERS.items() if known is kind)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    with (place / "users").open("w") as users:
        with locked(place / "starting"):
            fcntl.flock(users, fcntl.LOCK_SH)  # waits for a keeper that is about to end
            if not (place / "ports").exists():
                _keep(name, place)
        yield kind.attached(json.loads((place / "ports").read_text()))


def _keep(name: str, place: Path) -> None:
    with (place / "log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", __name__, name, str(place)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives whoever started it
        )
    while not (place / "ports").exists():
        if keeper.poll() is not None:
            raise RuntimeError(f"{name} did not start:\n{(place / 'log').read_text(errors='replace')}")
        time.sleep(0.05)
    keeper.returncode = 0  # nobody waits for it


def main() -> None:
    name, place = sys.argv[1], Path(sys.argv[2])
    with SERVERS[name]() as server, (place / "users").open("w") as users:
        written = place / "ports.new"
        written.write_text(json.dumps(server.ports))
        written.rename(place / "ports")
        fcntl.flock(users, fcntl.LOCK_EX)  # nobody uses it any more; whoever comes now waits until it has ended
        (place / "ports").unlink()


if __name__ == "__main__":
    main()
