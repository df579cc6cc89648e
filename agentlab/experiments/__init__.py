"""Experiments: what is done in a workspace with the agent, and measured.

`run` plays and learns, `collection` explores for successes, `evaluation` measures arms side by side, `two_by_two` and
`forgetting` read what an adapter took over and lost, `consolidation` tidies the memory.
"""
