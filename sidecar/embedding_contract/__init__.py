"""Documents that the operator writes and the sidecar reads, and names both must agree on.

The reader owns this package, so it lives beside the sidecar. It needs the standard library only:
both images import it, as do tests that need neither.
"""
