"""The policy's day: counted in the store before it is spent."""
