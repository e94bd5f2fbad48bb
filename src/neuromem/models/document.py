"""documents: uploaded files and what was read from them."""

from sqlalchemy import UUID, Column, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from neuromem.models.columns import updated_at

_CONTENT = (
    "filename", "file_type", "mime_type", "file_size", "object_key", "extracted_text", "embedding_id", "category",
    "tags", "metadata_", "source_type", "title", "page_count", "chunk_count", "content_hash", "warnings",
)  # fmt: skip


def documents(metadata: MetaData) -> VersionedTable:
    """`embedding_id` names the logical id of the memory that stands for the document: its first chunk.

    `extracted_text` holds the pages with a form feed between them; `content_hash` is the SHA-256 of the bytes.
    """
    table = Table(
        "documents",
        metadata,
        *version_columns("document_id"),
        Column("user_id", String(255), nullable=False),
        Column("filename", String(500), nullable=False),
        Column("file_type", String(50)),
        Column("mime_type", String(100)),
        Column("file_size", Integer),
        Column("object_key", String(500)),
        Column("extracted_text", Text),
        Column("embedding_id", UUID),
        Column("category", String(100), nullable=False, server_default="general"),
        Column("tags", JSONB),
        Column("metadata_", JSONB, nullable=False),
        Column("source_type", String(50)),
        updated_at(),
        Column("title", String(500)),
        Column("page_count", Integer),
        Column("chunk_count", Integer),
        Column("content_hash", String(64)),
        Column("warnings", JSONB),
    )
    version_indexes("doc", table, "document_id")
    Index("ix_doc_user", table.c.user_id)
    return VersionedTable(table, "document_id", content=_CONTENT, carried=("user_id",))
