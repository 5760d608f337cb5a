//! The one binary of the image: `landfall controller`, `landfall speaker`.
fn main() {}
