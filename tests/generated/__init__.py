"""Random models and random training loops, and what a recording of them has to hold."""
