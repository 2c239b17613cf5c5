"""Classifiers for serving: exporting with a proof that what is served is what was measured, a server, a client."""

from recipes.serving.client import Client

__all__ = ["Client"]
