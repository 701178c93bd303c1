"""From a request to its vectors: cache, calls, batches, providers in the order of the policy."""
