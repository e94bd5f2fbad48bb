"""Statements: pure functions from tables and parameters to `Select`. Every one binds the user."""
