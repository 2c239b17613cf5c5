"""Keras layers, each faithful to its paper."""
