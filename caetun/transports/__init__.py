"""Ways to a far end. They know bytes and the link contract, never the node."""
