"""Plans, stages, layer-wise rates and what belongs to a run."""
