"""Where memories are kept: roles (`base`), who plays them (`factory`), and an adapter per server."""
