"""A policy as the objects that carry it out: pure, in the order in which they are applied."""
