//! The `kadwire` command.
fn main() {}
