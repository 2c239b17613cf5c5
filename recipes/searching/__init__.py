"""Hyperparameter search: what is searched, who chooses, and where the trials run."""
