"""What runs on an edge: copied there as one folder, standard library only."""
