"""The documentation is true: its examples run, its links lead somewhere, every command is in it."""

import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from memground.embedding.install import default_model_dir
from memground.postgres.embedded import EmbeddedPostgres
from neuromem.cli import app as neuromem
from omnimem.cli import app as omnimem
from support.deployments import Servers
from support.embedded import short_tmp_dir
from support.run_document import blocks
from support.warm_commands import warm_commands

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path for path in (*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md")))
WRITTEN = [path for path in DOCUMENTS if path.parent.name != "reference"]
"""By people; the reference is made from the program."""
WITH_CODE = [path for path in DOCUMENTS if any(block.runs for block in blocks(path.read_text(encoding="utf-8")))]
PROGRAMS = {"neuromem": neuromem, "omnimem": omnimem}
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")
_databases = itertools.count(1)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def commands() -> Iterator[Path]:
    """A folder with programs that are warm."""
    with short_tmp_dir() as folder, warm_commands(folder):
        yield folder


@pytest.mark.parametrize("document", WITH_CODE, ids=_name)
async def test_the_examples_run(
    document: Path, commands: Path, server: EmbeddedPostgres, request: pytest.FixtureRequest
) -> None:
    """In a home of their own with the model, where `NeuroMemory()` starts a PostgreSQL. DATABASE_URL is another one;
    what is about a fleet has one."""
    database = f"document_{next(_databases)}"
    await server.ensure_database(database)
    with short_tmp_dir() as home:
        models = home / ".neuromem" / "models"
        models.parent.mkdir(mode=0o711)
        models.symlink_to(default_model_dir().parent, target_is_directory=True)
        environment = {
            **os.environ,
            "HOME": str(home),
            "DATABASE_URL": server.url(database),
        }
        if document.name == "fleet.md":
            fleet: Servers = request.getfixturevalue("servers")
            environment |= {
                "POSTGRES_URL": fleet.postgres,
                "MONGODB_URL": fleet.mongodb,
                "ELASTICSEARCH_URL": fleet.elasticsearch,
                "KAFKA_BOOTSTRAP": fleet.kafka,
            }
        done = subprocess.run(
            [commands / "document", document],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    links = _LINK.findall(document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_command_is_described() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in WRITTEN)
    commands = [name for program, app in PROGRAMS.items() for name in _commands(get_command(app), program)]
    assert commands
    assert [command for command in commands if command not in text] == []


def test_every_option_is_described() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in WRITTEN)
    words = set(re.findall(r"--[a-z-]+", text))
    options = dict(item for program, app in PROGRAMS.items() for item in _options(get_command(app), program))
    assert {name: sorted(used - words) for name, used in options.items() if used - words} == {}


def _options(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
    options = {word for param in command.params for word in (*param.opts, *param.secondary_opts)}
    yield name, {word for word in options if word.startswith("--")}
    for word, part in getattr(command, "commands", {}).items():
        yield from _options(part, f"{name} {word}")


def _commands(command: Any, name: str) -> Iterator[str]:
    nested = getattr(command, "commands", None)
    if nested is None:
        yield name
    for word, part in (nested or {}).items():
        yield from _commands(part, f"{name} {word}")
