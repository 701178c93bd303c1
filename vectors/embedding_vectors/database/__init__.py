"""The database as it is: connections, failures, and what its catalogue says."""
