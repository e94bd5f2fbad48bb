"""The commands `neuromem` and `omnimem`, called in this process through their entry points."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from neuromem.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(
    *arguments: str,
    stdin: bytes = b"",
    environment: Mapping[str, str] = {},
    terminal: bool = False,
    program: tuple[str, Callable[[], None]] = ("neuromem", main),
) -> Outcome:
    """What `neuromem …` (or another program) printed, and its exit code. `terminal`: stdin says that it is one."""
    name, entry = program
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin))
    given.isatty = lambda: terminal
    with (
        patch.object(sys, "argv", [name, *arguments]),
        patch.object(sys, "stdin", given),
        patch.dict(os.environ, {"COLUMNS": "100", **environment}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            entry()
        except SystemExit as end:
            return Outcome(end.code if isinstance(end.code, int) else 0, out.getvalue(), err.getvalue())
    raise AssertionError("main() always exits")
