//! Gives Services their addresses.
