"""Experience becomes weights: selection, examples, training jobs, gates and adapters."""
