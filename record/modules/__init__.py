"""Which modules of a network are recorded, and what they are called."""
