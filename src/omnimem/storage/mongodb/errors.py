"""What the driver raises, as errors of ours; and addresses without their passwords."""

import re
from collections.abc import Generator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from memground.errors import ConfigurationError, ConflictError, InvalidInputError, MemoryStoreError, UnavailableError

TRANSIENT, UNKNOWN = "TransientTransactionError", "UnknownTransactionCommitResult"
_USER = re.compile(r"[\w.%+-]{1,100}")
_DUPLICATE = 11000
_LOGIN = (13, 18, 8000)
"""Unauthorized, AuthenticationFailed, and what the cloud says for both."""
_SIZE = (10334, 17280, 17419, 17420)
"""A document or a key is too large."""
_TRANSACTION_SIZE = (257, 388)
"""A transaction is too large for an entry of the oplog, or for the cache."""
_AWAY = (6, 7, 50, 89, 91, 112, 189, 246, 262, 290, 365, 9001, 10107, 11600, 11601, 11602, 13435, 13436)
"""Unreachable, stopping, electing, too slow, in the way of others: trying again may work."""


class PassingConflict(ConflictError):
    """Another transaction was in the way, or the connection broke: this one left nothing and may run again."""


class Duplicate(ConflictError):
    """A unique index has such a value already."""


def redact(url: str) -> str:
    """Scheme, user, hosts and database of an address: no password, no option. Of one that is misspelt, less."""
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if "?" in login:  # no login at all, or one that nobody can tell from options
        return f"{scheme[:20]}://…"
    user, colon, _ = login.partition(":")
    shown = user if _USER.fullmatch(user) else "…"
    return f"{scheme[:20]}://{shown + (':***' if colon else '') + '@' if at else ''}{place.partition('?')[0]}"


@contextmanager
def reporting(url: str) -> Generator[None]:
    """Turns the driver's errors into ours. `url` is shown, redacted."""
    try:
        yield
    except (PyMongoError, BSONError, OSError) as error:
        raise translated(error, url) from error


def translated(error: Exception, url: str) -> MemoryStoreError:
    """What an error of the driver means."""
    where, said = f"MongoDB at {redact(url)}", _said(error)
    if _has_label(error, TRANSIENT):
        return PassingConflict(f"{where}: the transaction met another one or lost its connection: {said}")
    if _codes(error) & {_DUPLICATE} or isinstance(error, DuplicateKeyError):
        return Duplicate(f"{where} has such a value already: {said}")
    if _codes(error) & set(_LOGIN):
        return ConfigurationError(f"{where} refused the login: {said}")
    if _codes(error) & set(_TRANSACTION_SIZE):
        return InvalidInputError(
            f"{where} cannot keep so much in one transaction: {said}; "
            "write less at once, or give the server a larger cache"
        )
    if isinstance(error, DocumentTooLarge | BSONError) or _codes(error) & set(_SIZE):
        return InvalidInputError(f"{where} cannot keep this: {said}")
    if isinstance(error, ConnectionFailure | OSError):
        return _unreachable(error, where, said)
    if (isinstance(error, PyMongoError) and error.timeout) or _codes(error) & set(_AWAY):
        return UnavailableError(f"{where} did not answer in time or cannot now: {said}")
    return ConfigurationError(f"{where} refused: {said}")


def _unreachable(error: Exception, where: str, said: str) -> MemoryStoreError:
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return ConfigurationError(f"the certificate of {where} is not trusted; tlsCAFile=… names who signed it: {said}")
    if "SSL handshake failed" in said:
        return ConfigurationError(f"{where} does not speak TLS as asked; see tls=… in the address: {said}")
    kinds = (AutoReconnect, NetworkTimeout, NotPrimaryError, ServerSelectionTimeoutError)
    hint = "check that it runs and that the address is right" if isinstance(error, kinds) else "try again"
    return UnavailableError(f"{where} cannot be reached: {said}; {hint}")


def _said(error: Exception) -> str:
    """The driver's own words, without its description of the whole topology."""
    return str(error).partition(", Timeout:")[0].partition(", full error:")[0][:300]


def _codes(error: Exception) -> set[int]:
    if not isinstance(error, OperationFailure):
        return set()
    found = {error.code} if error.code is not None else set[int]()
    details = error.details or {}
    for each in details.get("writeErrors", []):
        found.add(each["code"])
    return found


def _has_label(error: Exception, label: str) -> bool:
    return isinstance(error, PyMongoError) and error.has_error_label(label)
