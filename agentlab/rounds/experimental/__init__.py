"""Parts of a round that no table shows to help yet: questions made of what the memory holds, and a society of agents.

None is a default.
"""
