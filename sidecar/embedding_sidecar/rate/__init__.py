"""Limits per minute: sliding windows in Redis, and the calls that wait for them."""
