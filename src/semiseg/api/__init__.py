"""The commands as Python calls: plain arguments in, typed results out."""
