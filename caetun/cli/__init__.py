"""Arguments -> settings -> daemon; one file per command."""
