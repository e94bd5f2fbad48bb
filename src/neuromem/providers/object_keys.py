"""The keys storages give: `prefix/uuid/name`, safe as a path of a folder and in an address."""

import re
import unicodedata
import uuid

from memground.errors import InvalidInputError
from memground.text import check_text, show

MOST_SECONDS = 7 * 24 * 3600
"""The longest an address signed by version 4 may be valid."""
_LONGEST_PREFIX = 300
_LONGEST_KEY = 500
_LONGEST_NAME = 50
"""Characters: at most 200 of the 255 bytes a file's name may have."""
_UNSAFE = re.compile(r"[^\w.()+ -]+|[\x00-\x1f\x7f]+")
_BACKSLASH_OR_CONTROL = re.compile(r"[\\\x00-\x1f\x7f]")
_CONTENT_TYPE = re.compile(r"[!-~][ -~]{0,98}")


def new_key(prefix: str, filename: str) -> str:
    """A key given to nothing else. Raises InvalidInputError for a prefix that is no relative path, and for a file name
    that is no text."""
    check_text(prefix, "prefix", limit=_LONGEST_PREFIX)
    _check_path(prefix, "prefix")
    check_text(filename, "filename", limit=_LONGEST_KEY)
    return f"{prefix}/{uuid.uuid4()}/{_safe_name(filename)}"


def check_key(object_key: str) -> str:
    """Refuse what cannot be a key, such as a path that leads elsewhere."""
    check_text(object_key, "object_key", limit=_LONGEST_KEY)
    _check_path(object_key, "object_key")
    return object_key


def check_content(data: bytes, content_type: str) -> None:
    if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"data must be bytes, got {type(data).__name__} {show(data)}")
    if not isinstance(content_type, str) or not _CONTENT_TYPE.fullmatch(content_type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"content_type={show(content_type)} is no media type; pass one such as 'text/plain'")


def check_seconds(expires_in: int) -> int:
    if type(expires_in) is not int or not 1 <= expires_in <= MOST_SECONDS:
        raise InvalidInputError(
            f"expires_in={show(expires_in)} is not accepted; pass a whole number of seconds from 1 to {MOST_SECONDS:,}"
        )
    return expires_in


def _check_path(path: str, what: str) -> None:
    if any(part in ("", ".", "..") for part in path.split("/")) or _BACKSLASH_OR_CONTROL.search(path):
        raise InvalidInputError(
            f"{what}={show(path)} is not accepted; pass names with / between them, none of them empty, '.' or '..'"
        )


def _safe_name(filename: str) -> str:
    """The file's name without folders or anything that a system or an address gives a meaning."""
    name = unicodedata.normalize("NFC", filename.replace("\\", "/").rstrip("/").rpartition("/")[2])
    stem, dot, suffix = _UNSAFE.sub("_", name).strip(" .").rpartition(".")
    suffix = suffix[:10]
    return f"{stem[: _LONGEST_NAME - len(suffix)]}{dot}{suffix}".strip(" .") or "file"
