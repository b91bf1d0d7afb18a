"""From one batch to the next: progress, metadata, what sends frames."""
