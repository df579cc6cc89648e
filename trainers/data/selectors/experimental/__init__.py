"""Selectors that no table shows to help yet. None stands in the usual selection, which is a filter on success,
duplicates and caps.
"""
