//! Replays and properties.
