"""Keyword search over each user's own words; vectors in half precision.

Early databases have keyword indexes of pg_search, or over `tsvector`, and a table that told whether a crash had cut the
former short. A new one never had them.
"""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY

from memground.words import keys, words

revision = "0002"
down_revision = "0001"

_ROWS_AT_ONCE = 1_000


def upgrade() -> None:
    attributes = context.config.attributes
    schema, dims = attributes["schema"], attributes["dims"]
    for name in ("idx_emb_bm25", "idx_conv_bm25"):
        op.drop_index(name, schema=schema, if_exists=True)
    op.drop_table("crash_witness", schema=schema, if_exists=True)
    meta = sa.table("meta", sa.column("key"), schema=schema)
    op.execute(sa.delete(meta).where(meta.c.key == "keyword_engine"))
    _half_vectors("embeddings", "idx_emb_vector", schema, dims)
    _half_vectors("conversation_embeddings", "idx_conv_emb_vector", schema, dims)
    _words("embeddings", "idx_emb_words", schema, sa.column("content"))
    said = sa.func.concat_ws(" ", sa.column("speaker"), sa.column("content"))
    _words("conversations", "idx_conv_words", schema, said)


def _half_vectors(table: str, index: str, schema: str, dims: int) -> None:
    quote = op.get_bind().dialect.identifier_preparer.quote
    name = f"{quote(schema)}.{quote(table)}"
    op.drop_index(index, schema=schema, if_exists=True)
    op.execute(f"ALTER TABLE {name} ALTER COLUMN embedding TYPE halfvec({dims}) USING embedding::halfvec({dims})")
    if dims <= 2_000:
        op.execute(f"ALTER TABLE {name} ALTER COLUMN embedding SET STORAGE MAIN")
    if dims <= 4_000:
        op.create_index(
            index,
            table,
            ["embedding"],
            schema=schema,
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "halfvec_cosine_ops"},
        )


def _words(table: str, index: str, schema: str, text: sa.ColumnElement[str]) -> None:
    op.add_column(table, sa.Column("words", ARRAY(sa.BigInteger())), schema=schema)
    rows = sa.table(table, *map(sa.column, ("id", "user_id", "words")), schema=schema)
    connection = op.get_bind()
    fill = (
        sa.update(rows)
        .where(rows.c.id == sa.bindparam("row_id", type_=sa.UUID))
        .values(words=sa.bindparam("found", type_=ARRAY(sa.BigInteger())))
    )
    empty = sa.select(rows.c.id, rows.c.user_id, text.label("text")).where(rows.c.words.is_(None)).limit(_ROWS_AT_ONCE)
    while found := connection.execute(empty).all():
        connection.execute(fill, [{"row_id": row.id, "found": keys(row.user_id, words(row.text))} for row in found])
    op.alter_column(table, "words", nullable=False, schema=schema)
    op.create_index(
        index, table, ["words"], schema=schema, postgresql_using="gin", postgresql_with={"fastupdate": "off"}
    )
