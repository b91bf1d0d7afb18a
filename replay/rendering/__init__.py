"""From options to an animation in a file."""
