"""What two ends agree upon: comparing settings, filtering what is assigned, giving addresses, letting new peers in."""
