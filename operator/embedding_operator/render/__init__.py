"""Render a policy as its objects, in the order of their application: pure."""
