//! Public keys for tests, of two types.

/// An Ed25519 key, in base64.
pub const ED25519: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIFzan38J6HR+FBfEANQcR35EYrD30Lg2EicJ/V6YaQXM";
/// An ECDSA key, in base64.
pub const ECDSA: &str = "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBzzpwUvIWSviCaL36/hPb5hia5P96TVw0SzH\
                         fuBukyXL8O3UXv2C6ZgnUq8HBrWCaexo+t8vUpkYMl6EBuGVMM=";
