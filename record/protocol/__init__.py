"""What the training and the writer process say to each other."""
