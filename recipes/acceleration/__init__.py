"""Networks made faster on the machine they run on, their outputs as they were."""
