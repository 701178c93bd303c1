"""Access tokens that the sidecar gets for the identity of its pod."""
