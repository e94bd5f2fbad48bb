"""The tables. Built for a dimension and a schema, because these belong to an opened `Database`."""

from neuromem.models.tables import Tables, build_tables

__all__ = ["Tables", "build_tables"]
