"""The mesh: members of one hub find direct ways to each other with its help."""
