//! Round trips, malformed input, and the `rtcp` crate as oracle.
