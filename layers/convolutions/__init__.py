"""Convolutions that Keras leaves out."""
