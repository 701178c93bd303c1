"""The wire form of callers: OpenAI's embeddings endpoint, and what is accepted beyond it; no IO."""
