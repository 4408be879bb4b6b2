"""The checks, one file each. `data_contracts.drop.inspection` puts them together."""
