"""Ready suite sets, one YAML file a set; `source: general-small` in a config names one of them."""
