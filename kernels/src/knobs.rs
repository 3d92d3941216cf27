//! Environment variables that tests use to force a choice. Users never need them.

/// `PROXIMA_ISA`: the instruction set to use, by name.
pub fn forced_isa() -> Option<String> {
    std::env::var("PROXIMA_ISA").ok().filter(|name| !name.is_empty())
}
