//! What does it mean? Pure: resources in, Config or errors with field paths out.
