"""The policy in force: read, swapped in one step, and what requests work with under it."""
