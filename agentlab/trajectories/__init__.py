"""Trajectories: games as they were played, and what is made of them.

`environment_pool` lends the environments, `replay` plays a list of actions again, `refinement` makes successes
exemplary by replays within a `budget`, and `advice` reads facts about actions off what was played (action priors).
"""
