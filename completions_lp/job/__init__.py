"""A run: its configuration, its stages in order, and what it remembers."""
