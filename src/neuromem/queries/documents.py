"""Statements over files and the memories that hold their text."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    UUID,
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.postgres.engine import Query
from memground.postgres.filter_sql import FilterColumn, compile_sql
from memground.postgres.versioned import known
from memground.view import View
from neuromem.models import Tables
from neuromem.queries.scope import Shape, built_once

PAGE_BREAK = "\f"
"""Between the pages of a document's text; no page holds one."""


def columns(tables: Tables) -> list[ColumnElement[Any]]:
    """What users see of a document: all but its text."""
    return [column for column in tables.documents.table.c if column.name != "extracted_text"]


def filter_columns(tables: Tables) -> dict[str, FilterColumn]:
    """What a filter over documents may name."""
    c = tables.documents.table.c
    return {
        "document_id": FilterColumn.text(cast(c.document_id, Text)),
        "filename": FilterColumn.text(c.filename),
        "title": FilterColumn.text(c.title),
        "file_type": FilterColumn.text(c.file_type),
        "mime_type": FilterColumn.text(c.mime_type),
        "file_size": FilterColumn.number(c.file_size),
        "pages": FilterColumn.number(c.page_count),
        "category": FilterColumn.text(c.category),
        "tags": FilterColumn.json(c.tags),
        "metadata": FilterColumn.json(c.metadata_),
        "source_type": FilterColumn.text(c.source_type),
        "content_hash": FilterColumn.text(c.content_hash),
        "origin": FilterColumn.text(c.origin),
        "known_from": FilterColumn.datetime(c.known_from),
        "created_at": FilterColumn.datetime(c.created_at),
    }


def owned(tables: Tables, user_id: str, document_id: uuid.UUID) -> ColumnElement[bool]:
    table = tables.documents.table
    return and_(table.c.user_id == user_id, table.c.document_id == document_id)


def one(tables: Tables, user_id: str, document_id: uuid.UUID, view: View) -> Query:
    """The document as the view knows it."""
    return select(*columns(tables)).where(owned(tables, user_id, document_id), known(tables.documents.table, view))


def text_of(tables: Tables, user_id: str, document_id: uuid.UUID, view: View) -> Query:
    """(extracted_text) of the document as the view knows it."""
    table = tables.documents.table
    return select(table.c.extracted_text).where(owned(tables, user_id, document_id), known(table, view))


def several(tables: Tables, user_id: str, ids: Sequence[uuid.UUID], view: View) -> Query:
    """Documents by their ids, as the view knows them."""
    table = tables.documents.table
    wanted = table.c.document_id == any_(bindparam("ids", list(ids), type_=ARRAY(UUID), unique=True))
    return select(*columns(tables)).where(table.c.user_id == user_id, wanted, known(table, view))


@built_once
def page(tables: Tables, shape: Shape, *, after: bool) -> Query:
    """:limit documents, the last written first; `after` the row (:version, :id) that was the last one given."""
    table = tables.documents.table
    passing = [] if shape.where is None else [compile_sql(shape.where, filter_columns(tables))]
    statement = select(*columns(tables)).where(shape.known(table), *passing)
    if after:
        last = tuple_(bindparam("version", type_=BigInteger), bindparam("id", type_=UUID))
        statement = statement.where(tuple_(table.c.version, table.c.id) < last)
    return statement.order_by(table.c.version.desc(), table.c.id.desc()).limit(bindparam("limit", type_=Integer))


def in_files(tables: Tables, shape: Shape) -> ColumnElement[bool]:
    """Memories that are passages of files the view knows, which pass `shape.of_files`."""
    memory, link, document = tables.embeddings.table, tables.memory_sources.table, tables.documents.table
    then = Shape(past=shape.past)
    passing = [] if shape.of_files is None else [compile_sql(shape.of_files, filter_columns(tables))]
    passages = (
        select(link.c.derived_id)
        .select_from(link.join(document, document.c.document_id == link.c.source_id))
        .where(
            then.known(link),
            then.known(document),
            link.c.derived_kind == "memory",
            link.c.source_kind == "document",
            *passing,
        )
    )
    return memory.c.memory_id.in_(passages)


def passages(tables: Tables, user_id: str, document_id: uuid.UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Which memories are passages of a document, and which links are theirs.

    Asked of the links: the ids of passages follow from the user's, who may have been called otherwise elsewhere.
    """
    memory, link = tables.embeddings.table, tables.memory_sources.table
    of_it = and_(
        link.c.user_id == user_id,
        link.c.source_kind == "document",
        link.c.source_id == document_id,
        link.c.derived_kind == "memory",
    )
    named = select(link.c.derived_id).where(of_it)
    theirs = and_(memory.c.user_id == user_id, memory.c.memory_type == "document", memory.c.memory_id.in_(named))
    return theirs, and_(of_it, link.c.derived_id.in_(select(memory.c.memory_id).where(theirs)))


def count(tables: Tables, user_id: str, view: View) -> Query:
    """How many documents the view knows."""
    table = tables.documents.table
    return select(func.count()).where(table.c.user_id == user_id, known(table, view))
