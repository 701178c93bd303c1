"""The operator: turns an EmbeddingPolicy into its objects and sidecars."""
