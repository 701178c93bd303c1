"""The callers' form: OpenAI's embeddings endpoint and what is accepted beyond it; no IO."""
