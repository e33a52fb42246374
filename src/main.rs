//! Rialto.
fn main() {}
