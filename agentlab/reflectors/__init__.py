"""Reflectors: what is learned from a finished episode.

`base` says what a reflector is, `registry` names them all. `grounded` and `exemplar` read the trajectory itself; the
others are written by a model.
"""
