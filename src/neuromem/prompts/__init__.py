"""The instructions given to language models, as text files: NAME.LANGUAGE.txt."""
