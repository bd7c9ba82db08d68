"""The router: which peer an IP packet goes to, and what its sender is told if it goes nowhere."""
