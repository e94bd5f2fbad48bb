"""What an embeddings endpoint answers. Apart, because pydantic takes as long to import as half of SQLAlchemy."""

from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["Embeddings", "ValidationError"]


class Embedding(BaseModel):
    """One vector, and the place of its text in the request."""

    index: int
    embedding: list[float]


class Embeddings(BaseModel):
    """The vectors of a request."""

    data: list[Embedding]
    usage: Any = None
