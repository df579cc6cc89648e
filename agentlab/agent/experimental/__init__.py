"""Ways to play that no table shows to help yet: LeCo, SelfGoal, a society of agents. None is a default."""
