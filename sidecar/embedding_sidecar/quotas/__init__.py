"""The policy's daily quota: calls are counted in the store before they are made."""
