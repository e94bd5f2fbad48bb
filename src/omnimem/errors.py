"""The errors omnimem raises; see `memground.errors` for the tree."""

from memground.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    MemoryStoreError,
    ModelMismatchError,
    ModelMissingError,
    NotFoundError,
    ProviderError,
    UnavailableError,
    UnsupportedError,
)

__all__ = [
    "ConfigurationError",
    "ConflictError",
    "InvalidInputError",
    "MemoryStoreError",
    "ModelMismatchError",
    "ModelMissingError",
    "NotFoundError",
    "ProviderError",
    "UnavailableError",
    "UnsupportedError",
]
