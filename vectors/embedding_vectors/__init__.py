"""Keeps tables of PostgreSQL embedded and searches them: plan, backfill, search."""
