"""Measurements beside peers; a package of its own, since some wheels bring one of this name (pyarrow 17)."""
