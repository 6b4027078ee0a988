"""Importers of the papers' datasets, one file each; `base.importers()` loads and lists them."""
