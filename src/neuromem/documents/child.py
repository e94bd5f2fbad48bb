"""The process that reads one file. Its program is in `process`; it is given a line of JSON and the file's bytes on
standard input, and answers in lines of JSON: `{"done": 3, "total": 200}` …, then the document or the error."""

import contextlib
import json
import logging
import sys
import warnings
from typing import Any, TextIO

from memground.errors import ConfigurationError, InvalidInputError
from neuromem.documents.limits import FileLimits
from neuromem.documents.reading import read_document

_CPU_SECONDS_MORE = 5


def main(header: dict[str, Any]) -> None:
    """Reads what the header names (`filename`, `limits`) from standard input, and answers on standard output."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever libraries print is no answer
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    limits = FileLimits(**header["limits"])
    _restrain(limits)
    _answer(answers, _result(header["filename"], limits, answers))


def _result(filename: str, limits: FileLimits, answers: TextIO) -> dict[str, Any]:
    def progress(done: int, total: int) -> None:
        _answer(answers, {"done": done, "total": total})

    try:
        return {"document": read_document(filename, sys.stdin.buffer.read(), limits, progress).to_dict()}
    except InvalidInputError as error:
        return {"refused": str(error)}
    except ConfigurationError as error:
        return {"misconfigured": str(error)}
    except MemoryError:
        return {
            "refused": f"{filename} needs more than {limits.memory:,} bytes of memory to be read "
            "(FileLimits(memory=…) allows more)"
        }
    except Exception as error:  # noqa: BLE001 - what a library makes of a hostile file is the file's fault
        return {"refused": f"{filename} cannot be read ({type(error).__name__}: {str(error)[:200]})"}


def _answer(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _restrain(limits: FileLimits) -> None:
    """No more memory than allowed, no life after a parent that was killed, no dump of what was read."""
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, int(limits.seconds) + _CPU_SECONDS_MORE),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, most in wanted:
        allowed = resource.getrlimit(kind)[1]
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
            resource.setrlimit(kind, (min(most, allowed), allowed) if allowed >= 0 else (most, most))
