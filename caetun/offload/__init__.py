"""Superframes: cutting them to size, joining them again, and doing in software what a device cannot do."""
