"""Networks redesigned at a fixed time cost: depth, width and kernel size traded for one another."""
