"""What must hold among the versions of a thing, asked of the rows themselves."""

from sqlalchemy import ColumnElement, and_, func, or_, select

from memground.postgres.engine import Query
from memground.postgres.versioned import VersionedTable


def unsound(vt: VersionedTable, where: ColumnElement[bool]) -> Query:
    """(key) of one thing that some moment would know in two states, or whose version ends before it begins."""
    table = vt.table
    following = func.lead(table.c.known_from).over(partition_by=vt.key_column, order_by=table.c.version)
    versions = (
        select(vt.key_column.label("key"), table.c.known_from, table.c.known_to, following.label("next_from"))
        .where(where)
        .subquery("versions")
    )
    ends = versions.c.known_to
    overlaps = and_(versions.c.next_from.is_not(None), or_(ends.is_(None), versions.c.next_from < ends))
    return select(versions.c.key).where(or_(ends < versions.c.known_from, overlaps)).limit(1)
