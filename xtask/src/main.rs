//! map to come
fn main() {}
