"""The pages that every pod of an index serves on its port, and their server."""
