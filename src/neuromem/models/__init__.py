"""The tables. Built for a dimension, a schema and a keyword engine, because these belong to an opened `Database`."""

from neuromem.models.tables import Tables, build_tables

__all__ = ["Tables", "build_tables"]
