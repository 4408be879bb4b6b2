"""The checks, one file each. `data_contracts.inspection` puts them together."""
