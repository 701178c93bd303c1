"""The election of the replica that reconciles, by a Lease; decision 040.

`decision` decides from what was seen, without IO; `lease` reads and writes the Lease.
"""
