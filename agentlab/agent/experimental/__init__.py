"""Actors that no table compares with the usual ones yet: LeCo, SelfGoal. None is a default."""
