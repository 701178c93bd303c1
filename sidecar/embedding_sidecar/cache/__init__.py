"""Vectors that were paid for: in memory, over a Redis that pods share, and clearing both."""
