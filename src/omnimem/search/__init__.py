"""Finding memories: what a query asks of each store (`query_builder`), and how the answers become one (`engine`)."""
