"""The agent: how an episode is played.

`arms` are the ways to play, `episode` is the living side of one game and `graph` its LangGraph, `rollout` plays many
side by side. `policy` chooses among the scored commands, `recall` asks the memory, with the `strength` that advice has,
`router` composes skills; `random_exploration` explores without a model. `tasks` are what can be played. `spans` are
what tracing says of all that.
"""
