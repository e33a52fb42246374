//! Extended reports (RFC 3611), with which an endpoint that sends no media learns its round-trip
//! time.
#![expect(clippy::arithmetic_side_effects, reason = "lengths within one packet of at most 64 KiB")]

use super::super::{be16, be32, be64};

/// Block types (RFC 3611 sections 4.4 and 4.5).
pub(super) const RECEIVER_REFERENCE_TIME: u8 = 4;
pub(super) const DLRR: u8 = 5;

/// The sender of an extended report, and the NTP time of its first receiver reference time block
/// (RFC 3611 section 4.4). `body` is what follows the common header. `None` if there is no such
/// block.
pub fn receiver_reference_time(body: &[u8]) -> Option<(u32, u64)> {
    let ssrc = be32(body, 0)?;
    let mut rest = body.get(4..)?;
    loop {
        let kind = *rest.first()?;
        let words = usize::from(be16(rest, 2)?);
        if kind == RECEIVER_REFERENCE_TIME && words == 2 {
            return Some((ssrc, be64(rest, 4)?));
        }
        rest = rest.get(4 + 4 * words..)?;
    }
}
