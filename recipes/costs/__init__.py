"""What a network costs: parameters, multiply-adds, memory, bytes moved, and time on request."""
