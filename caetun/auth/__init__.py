"""Who may come in: modules that decide one after the other, and the stage a peer is in until all have agreed."""
