"""Runs the scripts on the connection and in the schema that `memground.postgres.schema.migrate` gives."""

from alembic import context
from sqlalchemy.schema import CreateSchema

from memground.postgres.schema import VERSION_TABLE

attributes = context.config.attributes
schema: str = attributes["schema"]
connection = attributes["connection"]

connection.execute(CreateSchema(schema, if_not_exists=True))
context.configure(connection=connection, version_table=VERSION_TABLE, version_table_schema=schema)
context.run_migrations()
