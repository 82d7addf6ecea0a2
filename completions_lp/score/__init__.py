"""Fixed sequences under conditions: the grid, the two-choice read-out, sums, measures, profile, top-up."""
