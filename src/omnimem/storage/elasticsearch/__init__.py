"""The keyword index in Elasticsearch."""
