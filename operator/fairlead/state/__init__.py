"""What a policy remembers between runs. `base` is the contract."""
