"""Mechanisms on PostgreSQL, each over tables and predicates given by the caller."""
