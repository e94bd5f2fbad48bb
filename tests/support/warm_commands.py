"""`neuromem` and `omnimem` without the second of their start: a process that has imported them forks for each command.

So does `document FILE`, which runs the examples of a document (see `run_document`). `python warm_commands.py FOLDER`
writes the commands into the folder, prints a line, and serves them until its standard input ends.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COMMAND = """\
#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
given = [sys.argv, os.getcwd(), dict(os.environ)]
socket.send_fds(server, [b"+"], [0, 1, 2])
server.sendall(json.dumps(given).encode() + b"\\n")
sys.exit(int(server.recv(10) or 70))
"""
_WHEN_NEEDED = (
    "alembic.command", "neuromem.facades", "neuromem._core", "omnimem.client.client", "rich.progress",
    "rich.table", "tokenizers",
)  # fmt: skip
"""What commands import only when they run; ONNX has threads as soon as it is imported, which a fork has not."""


@contextmanager
def warm_commands(folder: Path) -> Iterator[None]:
    """Has the commands in a folder, whose path must be short enough for a socket in it. Warnings are errors to them."""
    arguments = [sys.executable, "-W", "error", __file__, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("the commands could not be imported")
        yield
        process.communicate()


def serve(folder: Path) -> None:
    for module in _WHEN_NEEDED:
        importlib.import_module(module)
    from neuromem.cli import main as neuromem
    from omnimem.cli import main as omnimem
    from support.run_document import main as document

    programs = {"neuromem": neuromem, "omnimem": omnimem, "document": document}
    address = str(folder / "commands")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    for program in programs:
        command = folder / program
        command.write_text(_COMMAND.format(python=sys.executable, address=address))
        command.chmod(0o700)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    if os.fork():
        sys.stdin.read()  # until whoever wants the commands is gone
        os.killpg(0, signal.SIGTERM)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        asking, _ = listening.accept()
        if os.fork() == 0:
            break
        asking.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    listening.close()
    _, files, _, _ = socket.recv_fds(asking, 1, 3)
    arguments, place, environment = json.loads(asking.makefile().readline())
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        asking.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    asking.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    code: object = 0
    try:
        programs[Path(arguments[0]).name]()
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        sys.stderr.write(code + "\n")
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # To take apart all that was imported, as the end of a process does, would take as long as the command.
    os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    os.setpgid(0, 0)
    serve(Path(sys.argv[1]))
