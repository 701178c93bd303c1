"""The EmbeddingPolicy as values, and the limits that the administrator sets for it."""
