"""Map matching: which road a position lies on, fix by fix or for a whole trace at once."""
