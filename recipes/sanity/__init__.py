"""Whether a network and its data are fit to be trained, before any time goes into it."""
