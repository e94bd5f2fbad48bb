"""Runs the examples of a Markdown file: `document FILE`, one of the `warm_commands`.

Blocks marked ```python run from top to bottom in one namespace and one event loop, as if pasted into
`python -m asyncio`; ```bash blocks in which a line begins with `neuromem` or `omnimem` run in bash, with
NEUROMEM_DATABASE_URL and OMNIMEM_DATABASE_URL set to DATABASE_URL (a server for every command would take long).
A ```text block right behind either must equal what was printed; `…` in it stands for any characters, on a line of its
own for any lines. Blocks marked `no-run` need a key, the network or a person; Python among them has to be valid.
"""

import ast
import asyncio
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_BLOCK = re.compile(
    r"^```(?P<language>python|bash)(?P<mark> no-run)?\n(?P<code>.*?)^```$(?:\n+```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(r"^(?:neuromem|omnimem) ", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    line: int
    language: Literal["python", "bash"]
    code: str
    runs: bool
    printed: str | None


def blocks(text: str) -> Iterator[Block]:
    """The blocks that say something to be run or read, in order."""
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        if match["language"] == "python":
            yield Block(line, "python", match["code"], match["mark"] is None, match["printed"])
        elif _COMMAND.search(match["code"]):
            yield Block(line, "bash", match["code"], match["mark"] is None, match["printed"])


def promised(text: str) -> re.Pattern[str]:
    """What a ```text block stands for."""
    any_lines, any_characters = r"(?:.*\n)*?", ".*?"
    lines = (
        any_lines if line == "…" else re.escape(line).replace("…", any_characters) + r"\n" for line in text.splitlines()
    )
    return re.compile("".join(lines))


def main() -> None:
    """Runs the document that the command line names, with the commands that are beside this one."""
    run(Path(sys.argv[1]), Path(sys.argv[0]).parent)


def run(path: Path, commands: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block in blocks(path.read_text(encoding="utf-8")):
            if block.language == "python":
                printed = _python(path, block, namespace, runner)
            else:
                printed = _bash(path, block, commands) if block.runs else None
            if printed is not None and block.printed is not None and not promised(block.printed).fullmatch(printed):
                sys.exit(f"{path}:{block.line} promises\n{block.printed}\nbut printed\n{printed}")


def _python(path: Path, block: Block, namespace: dict[str, Any], runner: asyncio.Runner) -> str | None:
    # Blank lines in front make tracebacks name the line of the document.
    source = "\n" * (block.line - 1) + block.code
    code = compile(source, str(path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if not block.runs:
        return None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = eval(code, namespace)
        if asyncio.iscoroutine(result):
            runner.run(result)
    return printed.getvalue()


def _bash(path: Path, block: Block, commands: Path) -> str:
    programs = f"{commands}{os.pathsep}{Path(sys.executable).parent}"
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "NEUROMEM_DATABASE_URL": os.environ["DATABASE_URL"],
        "OMNIMEM_DATABASE_URL": os.environ["DATABASE_URL"],
        "COLUMNS": "110",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{path}:{block.line} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
