"""One reconcile of a policy: what is there, what should be, the difference, and the status."""
