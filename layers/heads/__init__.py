"""Heads: what turns features into classes."""
