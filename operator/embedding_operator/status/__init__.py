"""The status of a policy: conditions and fields, computed from facts: pure."""
