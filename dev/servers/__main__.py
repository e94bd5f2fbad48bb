"""Servers by hand, in the foreground or in the background; see README.md."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from dev.servers.fleet import SERVERS, chosen, close_all, settings_of, start_all
from dev.servers.server import CACHE, locked

_ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 90


class Background:
    """Servers that a keeper process holds until it is told to end. All of it lies in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "running.json"

    def start(self, names: list[str]) -> dict[str, str]:
        """What clients have to know. Servers that run already are left alone."""
        with locked(self.folder / "lock"):
            if self._keeper() is None:
                self._launch(names)
            running = json.loads(self._state.read_text())
        if missing := set(names) - set(running["servers"]):
            sys.exit(f"{', '.join(sorted(missing))} not among what runs already; first: make servers-stop")
        return running["settings"]

    def stop(self) -> None:
        """Ends the servers that were started here, and no others."""
        with locked(self.folder / "lock"):
            if (keeper := self._keeper()) is not None:
                keeper.terminate()
                with suppress(psutil.TimeoutExpired):
                    keeper.wait(_STOP_SECONDS)
                if keeper.is_running():
                    keeper.kill()  # its servers are tied to it
            self._state.unlink(missing_ok=True)

    def keep(self, names: list[str]) -> None:
        """Runs the servers until SIGTERM; what the keeper does."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        servers = chosen(names, self.folder)
        start_all(servers)
        try:
            me = {"pid": os.getpid(), "born": psutil.Process().create_time()}
            written = self._state.with_suffix(".new")
            written.write_text(json.dumps({**me, "servers": names, "settings": settings_of(servers)}))
            written.rename(self._state)
            while True:
                signal.pause()
        finally:
            close_all(servers)

    def _keeper(self) -> psutil.Process | None:
        """The keeper that left its number and the time of its birth: numbers are used again, both are not."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            state = json.loads(self._state.read_text())
            process = psutil.Process(state["pid"])
            if process.create_time() == state["born"] and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _launch(self, names: list[str]) -> None:
        self._state.unlink(missing_ok=True)
        log = self.folder / "log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "dev.servers", "--keep", "--data", str(self.folder), *names]
            keeper = subprocess.Popen(
                command,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        shown = 0
        while not self._state.exists():
            ended = keeper.poll() is not None
            said = log.read_text(errors="replace")
            print(said[shown:], end="", file=sys.stderr, flush=True)
            shown = len(said)
            if ended:
                sys.exit("the servers did not start")
            time.sleep(0.1)


def show(settings: dict[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(settings, indent=2), flush=True)
    else:
        print(*(f"export {name}='{value}'" for name, value in settings.items()), sep="\n", flush=True)


def main() -> None:
    default = Path(os.environ.get("NEUROMEM_SERVERS") or CACHE / "data")
    parser = argparse.ArgumentParser(prog="python -m dev.servers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="server", help=f"{', '.join(SERVERS)}; all when none is named")
    parser.add_argument("--json", action="store_true", help="print addresses as JSON, not as lines for a shell")
    parser.add_argument("--data", type=Path, default=default, help=f"folder of the background's data ({default})")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--background", action="store_true", help="return when all answer; their data are kept")
    how.add_argument("--stop", action="store_true", help="end what runs in the background")
    how.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.names) - SERVERS.keys():
        parser.error(f"no server {', '.join(sorted(unknown))}; there are {', '.join(SERVERS)}")
    names, background = given.names or list(SERVERS), Background(given.data.absolute())
    if given.background:
        show(background.start(names), given.json)
    elif given.stop:
        background.stop()
    elif given.keep:
        background.keep(names)
    else:
        servers = chosen(names, None)
        start_all(servers)
        try:
            show(settings_of(servers), given.json)
            with suppress(KeyboardInterrupt):
                sys.stdin.read()
        finally:
            close_all(servers)


if __name__ == "__main__":
    main()
