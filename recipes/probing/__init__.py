"""What the features of a base are worth for given images, before anything trains."""
