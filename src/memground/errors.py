"""The tree of errors both systems raise.

::

    MemoryStoreError
    ├── InvalidInputError (also ValueError)   the caller's argument is wrong; nothing was written
    ├── NotFoundError (also LookupError)      no such thing, or it belongs to somebody else
    ├── ConflictError                         somebody else changed it first
    ├── ConfigurationError                    this database, model or option cannot be used as asked
    │   ├── ModelMissingError                 a model's files are not installed
    │   └── ModelMismatchError                the database holds vectors of another model
    ├── UnsupportedError                      the backend cannot do this, and says so instead of guessing
    ├── UnavailableError                      a server cannot be reached (now); trying again may work
    └── ProviderError                         a model provider answered with something unusable
        └── TruncatedError                    a language model's answer ended at the limit of its length

A message says what was wrong, with which value, and what is accepted or what to do.
"""


class MemoryStoreError(Exception):
    """Root of every error raised on purpose by memground, neuromem and omnimem."""


class InvalidInputError(MemoryStoreError, ValueError):
    """An argument is wrong. Nothing was written."""


class NotFoundError(MemoryStoreError, LookupError):
    """Nothing by this id is visible to the caller."""


class ConflictError(MemoryStoreError):
    """Another writer won; read again and retry."""


class ConfigurationError(MemoryStoreError):
    """The database, the model or an option cannot be used as asked."""


class ModelMissingError(ConfigurationError):
    """A local model's files are not installed."""


class ModelMismatchError(ConfigurationError):
    """The database holds vectors of another model or dimension: of `model_id`, with `dims` numbers (None: unknown)."""

    def __init__(self, message: str, model_id: str | None = None, dims: int | None = None) -> None:
        super().__init__(message)
        self.model_id = model_id
        self.dims = dims


class UnsupportedError(MemoryStoreError):
    """The backend in use cannot do this."""


class UnavailableError(MemoryStoreError):
    """A server could not be reached."""


class ProviderError(MemoryStoreError):
    """A model provider failed or answered with something unusable."""


class TruncatedError(ProviderError):
    """A language model's answer was cut off where it reached the limit. `text` is what there is of it."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text
