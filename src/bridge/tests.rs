//! The bridge over a detached engine and pretended transports.
