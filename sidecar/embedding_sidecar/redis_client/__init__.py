"""Connections, scripts and refusals of a Redis, for cache and quota."""
