"""Kill -9 of a program that imports a user with files: this file as a script is the program.

python moving_killing.py '{"url": …, "schema": …, "folder": …, "seed": …}' FILE
"""

import asyncio
import json
import os
import random
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from support.files_killing import Place


async def live(place: Place, file: Path) -> None:
    """Imports until killed, and says how far it is."""

    def progress(what: str, done: int, total: int | None) -> None:
        sys.stdout.write(f"{what} {done} {total}\n")
        sys.stdout.flush()

    with file.open() as lines:
        async with place.mind() as mind:
            await mind.import_user_data(place.user, map(json.loads, lines), progress=progress)


async def strike(place: Place, file: Path) -> bytes:
    """Starts a program and kills it some time after the first file is stored; returns what it said last."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        json.dumps(asdict(place)),
        str(file),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
    )
    assert child.stdout is not None
    lines: list[bytes] = []
    while not (lines and lines[-1].startswith((b"uploading", b"storing"))):
        line = await child.stdout.readline()
        assert line, lines
        lines.append(line)
    reading = asyncio.create_task(child.stdout.read())
    await asyncio.sleep(random.Random(place.seed).uniform(0.0, 0.7))
    with suppress(ProcessLookupError):  # it was done before
        child.send_signal(signal.SIGKILL)
    lines += (await reading).splitlines()
    await child.wait()
    return lines[-1]


if __name__ == "__main__":
    asyncio.run(live(Place(**json.loads(sys.argv[1])), Path(sys.argv[2])))
