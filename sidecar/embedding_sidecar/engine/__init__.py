"""From a request to its vectors: cache, flights, batches, providers in the order of the policy."""
