"""Classifiers for serving: signatures, exporting, and the proof that what is served is what was measured."""
