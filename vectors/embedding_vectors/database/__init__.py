"""The database: connections, failures, and facts of its catalogue."""
