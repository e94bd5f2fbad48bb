"""Runs a program that ends when whoever started it is gone, killed or not: `python tied.py program argument…`.

The tie is standard input: it ends with the process at its other end. Then the program and everything it started are
killed. PostgreSQL puts its processes into sessions of their own, so a process group would not do; the tree does.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

_OBEYED_SECONDS = 10
_ENDED = (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE)
_STILL = (psutil.STATUS_STOPPED, *_ENDED)


def freeze(root: psutil.Process) -> list[psutil.Process]:
    """Stops a process and all below it, parents first, until none is new. Returns them in that order."""
    frozen: list[psutil.Process] = []
    while new := [process for process in _family(root) if process not in frozen]:
        for process in new:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        _until(lambda some=new: all(_status(process) in _STILL for process in some))
        frozen += new
    return frozen


def thaw(root: psutil.Process) -> None:
    """Lets a frozen process and all below it go on."""
    for process in reversed(_family(root)):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def kill(root: psutil.Process) -> None:
    """Ends a process and all below it at once. Frozen first, none of them can start another meanwhile.

    Returns when all have ended: what they shared is free then.
    """
    family = freeze(root)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _until(lambda: all(_status(process) in _ENDED for process in family))


def _status(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return process.status()
    return psutil.STATUS_DEAD


def _until(reached: Callable[[], bool]) -> None:
    """A signal is obeyed when its receiver is next given a processor, not when it is sent."""
    deadline = time.monotonic() + _OBEYED_SECONDS
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)


def _family(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []


def main() -> None:
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    root = psutil.Process(program.pid)

    def follow() -> None:
        status = program.wait()
        os._exit(status if status >= 0 else 128 - status)

    def ended(*_: object) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, ended)
    threading.Thread(target=follow, daemon=True).start()
    try:
        sys.stdin.buffer.read()
    finally:
        kill(root)


if __name__ == "__main__":
    main()
