"""What an index needs in its database: the plan, and how it is carried out."""
