"""The Kubernetes API: the client, server-side apply, ownership, conditions and events."""
