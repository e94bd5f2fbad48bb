"""Keyword search over each user's own words; vectors in half precision.

Early databases have keyword indexes of pg_search, or over `tsvector`, and a table that told whether a crash had cut the
former short. A new one never had them.
"""

import uuid

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY

from memground.words import keys, words

revision = "0002"
down_revision = "0001"

_ROWS_AT_ONCE = 1_000


def upgrade() -> None:
    attributes = context.config.attributes
    dims = attributes["dims"]
    schema = sa.quoted_name(attributes["schema"], quote=True)  # else Alembic takes a dot in it for two names
    for name in ("idx_emb_bm25", "idx_conv_bm25", "idx_emb_vector", "idx_conv_emb_vector"):
        op.drop_index(name, schema=schema, if_exists=True)
    op.drop_table("crash_witness", schema=schema, if_exists=True)
    meta = sa.table("meta", sa.column("key"), schema=schema)
    op.execute(sa.delete(meta).where(meta.c.key == "keyword_engine"))
    _words("embeddings", schema, sa.column("content"))
    _words("conversations", schema, sa.func.concat_ws(" ", sa.column("speaker"), sa.column("content")))
    _half_vectors("embeddings", schema, dims)
    _half_vectors("conversation_embeddings", schema, dims)
    # Indexes last: filling a table under them takes many times as long.
    _gin("idx_emb_words", "embeddings", schema)
    _gin("idx_conv_words", "conversations", schema)
    if dims <= 4_000:
        _hnsw("idx_emb_vector", "embeddings", schema)
        _hnsw("idx_conv_emb_vector", "conversation_embeddings", schema)


def _words(table: str, schema: str, text: sa.ColumnElement[str]) -> None:
    op.add_column(table, sa.Column("words", ARRAY(sa.BigInteger())), schema=schema)
    rows = sa.table(table, *map(sa.column, ("id", "user_id", "words")), schema=schema)
    connection = op.get_bind()
    fill = (
        sa.update(rows)
        .where(rows.c.id == sa.bindparam("row_id", type_=sa.UUID))
        .values(words=sa.bindparam("found", type_=ARRAY(sa.BigInteger())))
    )
    last = uuid.UUID(int=0)
    following = sa.select(rows.c.id, rows.c.user_id, text.label("text")).order_by(rows.c.id).limit(_ROWS_AT_ONCE)
    while found := connection.execute(following.where(rows.c.id > sa.literal(last, sa.UUID))).all():
        connection.execute(fill, [{"row_id": row.id, "found": keys(row.user_id, words(row.text))} for row in found])
        last = found[-1].id
    op.alter_column(table, "words", nullable=False, schema=schema)


def _half_vectors(table: str, schema: str, dims: int) -> None:
    connection = op.get_bind()
    name = f"{connection.dialect.identifier_preparer.quote(schema)}.{table}"
    # As it stands: in an SQLAlchemy text a colon in the schema's name would start a parameter.
    change = connection.exec_driver_sql
    change(f"ALTER TABLE {name} ALTER COLUMN embedding TYPE halfvec({dims}) USING embedding::halfvec({dims})")
    if dims <= 2_000:
        change(f"ALTER TABLE {name} ALTER COLUMN embedding SET STORAGE MAIN")


def _gin(name: str, table: str, schema: str) -> None:
    op.create_index(
        name, table, ["words"], schema=schema, postgresql_using="gin", postgresql_with={"fastupdate": "off"}
    )


def _hnsw(name: str, table: str, schema: str) -> None:
    op.create_index(
        name,
        table,
        ["embedding"],
        schema=schema,
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "halfvec_cosine_ops"},
        postgresql_with={"m": 10, "ef_construction": 80},
    )
