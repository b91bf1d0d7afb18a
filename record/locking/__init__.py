"""Who writes a recording: locks, their holders, and what this process writes itself."""
