"""Search: the rows nearest to a query, by vectors, by words or by both, and how it was answered."""
