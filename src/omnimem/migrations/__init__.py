"""The schema's history. `MIGRATIONS.head` is the newest revision; a test holds it against the scripts."""

from pathlib import Path

from memground.postgres.schema import Migrations

MIGRATIONS = Migrations(Path(__file__).parent, head="0002")
