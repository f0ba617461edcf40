"""What a run measures: its clock, its users' requests, and the folder where all of it is kept."""
