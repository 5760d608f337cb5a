//! Which bytes? Pure: Ethernet, ARP and NDP.
