"""What others need to test storage adapters of their own. See `omnimem.testing.conformance`."""
