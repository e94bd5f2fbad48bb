"""`python -m neuromem.demo`: a history becomes memory, and questions are answered from it, now and as of earlier."""
