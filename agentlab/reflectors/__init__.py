"""Reflectors: what is learned from a finished episode.

`base` says what a reflector is, `registry` names them all. `grounded` and `exemplar` read the trajectory itself; what a
model writes is in `experimental`.
"""
