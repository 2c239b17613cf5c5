"""The only door for data: sources → inspection → splitting → decoding → batches."""

from recipes.data.loading import load_data

__all__ = ["load_data"]
