"""Reflectors that no table shows to help yet: what a model writes. They are for models that can read such notes.

With models of some 100M parameters notes to read never helped. None of these is a default.
"""
