"""The operator: turns an EmbeddingPolicy into the objects and the sidecars that carry it out."""
