//! Answers ARP and NDP for the addresses this node owns.
