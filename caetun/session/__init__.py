"""What two peers share above any link: handshake, keys, replay window, packing and sealing. No clock, no sockets."""
