"""What trains runs, and encodes clips, on the nodes of a Ray cluster."""
