"""The IO shell: event loop, descriptors, one timer, signals, the host's network settings."""
