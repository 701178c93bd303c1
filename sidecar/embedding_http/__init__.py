"""HTTP/1.1 for ASGI applications, with a bound on every byte that comes in.

The sidecar and the pods of an index serve with it. It knows nothing of either.
"""
