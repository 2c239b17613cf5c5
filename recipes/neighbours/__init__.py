"""Classifiers that vote by their nearest examples: new classes without training, and images that are like nothing."""
