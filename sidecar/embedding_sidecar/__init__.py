"""The sidecar: an OpenAI-compatible embeddings API on loopback, with cache, quota and failover."""
