"""The graph is read by name: other names of nodes, and the edges of a name, the newest first."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    schema = sa.quoted_name(context.config.attributes["schema"], quote=True)
    # Nothing has written a node before, so none has another name.
    aliases = sa.Column("alias_keys", ARRAY(sa.BigInteger()), nullable=False, server_default="{}")
    op.add_column("graph_nodes", aliases, schema=schema)
    op.alter_column("graph_nodes", "alias_keys", server_default=None, schema=schema)
    op.create_index("ix_node_name", "graph_nodes", ["user_id", "node_id"], schema=schema)
    op.create_index(
        "idx_node_aliases",
        "graph_nodes",
        ["alias_keys"],
        schema=schema,
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    for end in ("source", "target"):
        op.drop_index(f"ix_edge_{end}", "graph_edges", schema=schema)
        op.create_index(f"ix_edge_{end}", "graph_edges", ["user_id", f"{end}_id", "version"], schema=schema)
    op.create_index("ix_edge_pair", "graph_edges", ["user_id", "source_id", "target_id"], schema=schema)
