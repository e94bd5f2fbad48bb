"""Reading a file in a process of its own, which can be ended whatever the file does to it."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from weakref import WeakKeyDictionary

from memground.errors import ConfigurationError, InvalidInputError
from neuromem.documents.limits import FileLimits
from neuromem.documents.reading import Progress
from neuromem.documents.text import DocumentPage, DocumentText

_PROGRAM = """
import json, sys
header = json.loads(sys.stdin.buffer.readline())
sys.path[:] = header["path"]
from neuromem.documents.child import main
main(header)
"""
"""Finds the packages where this process does, and looks at no other place: not the folder it is started in."""
_LONGEST_LINE_ASIDE = 1 << 20
_SAID_BY_A_CRASH = 300

_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def read_in_process(filename: str, data: bytes, limits: FileLimits, progress: Progress) -> DocumentText:
    """As `reading.read_document`, within the limits of time and memory. As many files are read at once as there are
    processors; waiting for one's turn takes none of the file's time."""
    async with _slot():
        time = asyncio.timeout(limits.seconds)
        try:
            async with time, _reader(filename, data, limits) as process:
                return await _answer(filename, process, progress)
        except TimeoutError:
            if not time.expired():
                raise
            raise InvalidInputError(
                f"{filename} could not be read within {limits.seconds:g} seconds (FileLimits(seconds=…) allows more)"
            ) from None


def _slot() -> asyncio.Semaphore:
    """One for each event loop, because a semaphore belongs to one."""
    return _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(os.cpu_count() or 1))


@asynccontextmanager
async def _reader(filename: str, data: bytes, limits: FileLimits) -> AsyncGenerator[Process]:
    """The process, being fed; gone afterwards."""
    if not sys.executable:
        raise ConfigurationError("files are read by a process of their own, but sys.executable names no Python")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", _PROGRAM),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=12 * limits.characters + _LONGEST_LINE_ASIDE,  # JSON writes a character in up to twelve
    )
    header = {"path": sys.path, "filename": filename, "limits": asdict(limits)}
    feeding = asyncio.create_task(_feed(process, json.dumps(header).encode() + b"\n", data))
    try:
        yield process
    except BaseException:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        raise
    finally:
        feeding.cancel()
        await process.wait()
        await asyncio.gather(feeding, return_exceptions=True)


async def _feed(process: Process, header: bytes, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
        process.stdin.write(header)
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _answer(filename: str, process: Process, progress: Progress) -> DocumentText:
    assert process.stdout is not None
    assert process.stderr is not None
    async for line in process.stdout:
        match json.loads(line):
            case {"done": int(done), "total": int(total)}:
                progress(done, total)
            case answer:
                await process.wait()  # it has said all; to kill what is just ending confuses asyncio
                return _read(answer)
    said = (await process.stderr.read()).decode(errors="replace").strip()
    code = await process.wait()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    raise InvalidInputError(f"{filename} cannot be read: what reads it {how} {said[-_SAID_BY_A_CRASH:]}".strip())


def _read(answer: Any) -> DocumentText:
    if message := answer.get("refused"):
        raise InvalidInputError(message)
    if message := answer.get("misconfigured"):
        raise ConfigurationError(message)
    read = answer["document"]
    return DocumentText(
        read["file_type"],
        read["mime_type"],
        read["title"],
        tuple(DocumentPage(**page) for page in read["pages"]),
        tuple(read["warnings"]),
    )
