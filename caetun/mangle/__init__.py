"""What the user wants changed or kept out of the frames between device and tunnel: rules, in order, on headers only."""
