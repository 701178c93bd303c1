"""`secrets migrate` and `secrets verify`: secrets copied into Vault, and the comparison."""
