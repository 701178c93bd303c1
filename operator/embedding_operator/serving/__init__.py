"""What keeps the process running: kopf, probes, metrics' listener and the orderly end."""
