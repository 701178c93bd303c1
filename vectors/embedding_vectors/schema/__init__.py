"""The schema that an index needs in its database: the plan, and its execution."""
