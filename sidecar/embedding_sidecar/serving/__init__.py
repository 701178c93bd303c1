"""HTTP: two listeners, the hot path in front of the router, and the pages about the sidecar."""
