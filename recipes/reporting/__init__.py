"""Reports: scores from probabilities, and how they are shown as text, plots and one page."""
