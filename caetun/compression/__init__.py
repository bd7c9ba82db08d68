"""What makes containers smaller before they are sealed: methods, one file each, found by name."""
