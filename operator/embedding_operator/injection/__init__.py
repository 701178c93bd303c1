"""The sidecar in a pod: which pods get one, the pod with it, and the admission webhook."""
