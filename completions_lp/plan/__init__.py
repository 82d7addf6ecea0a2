"""A pilot -> how large a run must be and what it costs; validation by direct draws."""
