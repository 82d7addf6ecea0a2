"""What the model says: draws, their labels, the text of their tokens."""
