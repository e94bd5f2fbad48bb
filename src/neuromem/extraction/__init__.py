"""What a language model makes of a conversation: how it is asked, how its answer is read. Knows no database."""
