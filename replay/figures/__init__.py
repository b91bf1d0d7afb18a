"""From options to a figure for print."""
