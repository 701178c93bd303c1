"""What every pod of an index answers on its port, and how it is served."""
