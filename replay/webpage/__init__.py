"""From options to a page in a browser."""
