"""Actors that no table compares with the usual ones yet: LeCo. None is a default."""
