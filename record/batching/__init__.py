"""Which forwards of a script make a batch that it trains on."""
