"""The features: one file a class, each a literal tuple of names and formulas in torch, one code for every device."""
