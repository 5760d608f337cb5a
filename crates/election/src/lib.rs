//! Which node answers? Pure: the same result on every node.
