"""Keeps the targets of an index filled: finds what changed, embeds it, and switches targets."""
