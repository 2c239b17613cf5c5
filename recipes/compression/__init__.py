"""Smaller and faster networks: one file per method, and the ladder that runs them."""
