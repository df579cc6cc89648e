"""Searches that no table compares with MCTS yet: best-of-N, iterative deepening, Self-Explore. None is a default."""
