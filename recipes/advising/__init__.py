"""What the craft would change about a network, with the reason and the saving."""
