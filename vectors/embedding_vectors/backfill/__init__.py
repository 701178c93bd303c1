"""Keeps the targets of an index filled: finds changed rows, embeds them, switches targets."""
