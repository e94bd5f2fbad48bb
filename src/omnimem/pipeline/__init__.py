"""How the indexes follow the truth."""
