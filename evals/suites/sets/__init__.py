"""Ready suite sets, one YAML file per set; `source: general-small` in a config names one of them."""
