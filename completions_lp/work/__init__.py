"""Units of work: what they are, which are there, who does those that are not; and the machine that this is on."""
