"""`secrets migrate` and `secrets verify`: secrets brought into Vault, and the proof of it."""
