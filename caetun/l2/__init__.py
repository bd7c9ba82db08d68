"""The Ethernet switch: pure and deterministic. A point-to-point tunnel has two ports and needs none of it."""
