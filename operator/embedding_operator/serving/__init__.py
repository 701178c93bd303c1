"""The process: kopf, probes, the listener for scrapes, and shutdown."""
