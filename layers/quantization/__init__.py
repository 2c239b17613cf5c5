"""Quantization in training: what integer arithmetic would make of weights and activations."""
