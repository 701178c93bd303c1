"""HTTP: two listeners, the fast path in front of the router, and the management pages."""
