"""What engines can do that no table shows to help yet: steering, by what is added to a model's hidden states."""
