"""The ground both systems stand on: time, versions, filters, fusion, PostgreSQL and embeddings.

It knows no user and no scope: every function works on the table and the predicate it is given.
"""
