"""Runs the Python blocks of a Markdown file: `python run_document.py FILE`.

Blocks marked ```python run from top to bottom in one namespace and one event loop, as if pasted into
`python -m asyncio`. A ```text block right behind one must equal what it printed. Blocks marked ```python no-run need a
key or the network: they only have to be valid Python.
"""

import ast
import asyncio
import contextlib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(
    r"^```python(?P<mark> no-run)?\n(?P<code>.*?)^```$(?:\n+```text\n(?P<printed>.*?)^```$)?", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    line: int
    code: str
    runs: bool
    printed: str | None


def blocks(text: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        yield Block(line, match["code"], match["mark"] is None, match["printed"])


def run(path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block in blocks(path.read_text(encoding="utf-8")):
            # Blank lines in front make tracebacks name the line of the document.
            source = "\n" * (block.line - 1) + block.code
            code = compile(source, str(path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if not block.runs:
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                result = eval(code, namespace)
                if asyncio.iscoroutine(result):
                    runner.run(result)
            if block.printed is not None and printed.getvalue() != block.printed:
                sys.exit(
                    f"{path}:{block.line} promises\n{block.printed}\nbut printed\n{printed.getvalue()}",
                )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
