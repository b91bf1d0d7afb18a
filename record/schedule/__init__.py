"""Which batches are kept, and what that costs."""
