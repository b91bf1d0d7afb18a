"""Trainings of small networks in which something happens that has been seen to break recorders."""
