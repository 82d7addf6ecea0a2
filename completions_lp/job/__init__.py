"""A run: its configuration, its stages in order, what it remembers, and the machine that it is on."""
