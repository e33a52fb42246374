//! Batched UDP system calls.
