//! The stamp in the last bytes of every payload: the stream, the packet's number in it, and when it
//! was sent. It survives everything that a bridge may rewrite (RTP header, descriptor, RTX).

/// Bytes of a stamp, at the end of the payload.
pub const LEN: usize = 24;

const MAGIC: [u8; 4] = *b"rLd1";

/// The identity of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The stream (one encoding of a source), an index into the plan.
    pub stream: u32,
    /// The packet's number within the stream, from 0.
    pub index: u64,
    /// When it was handed to the kernel, nanoseconds of the run's clock.
    pub sent: u64,
}

impl Stamp {
    /// Appends the stamp to a payload.
    pub fn write(self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&MAGIC);
        payload.extend_from_slice(&self.stream.to_be_bytes());
        payload.extend_from_slice(&self.index.to_be_bytes());
        payload.extend_from_slice(&self.sent.to_be_bytes());
    }

    /// Reads the stamp at the end of a payload, if there is one.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let raw = payload.last_chunk::<LEN>()?;
        let (magic, raw) = raw.split_first_chunk::<4>()?;
        let (stream, raw) = raw.split_first_chunk::<4>()?;
        let (index, raw) = raw.split_first_chunk::<8>()?;
        let sent = raw.first_chunk::<8>()?;
        (*magic == MAGIC).then(|| Self {
            stream: u32::from_be_bytes(*stream),
            index: u64::from_be_bytes(*index),
            sent: u64::from_be_bytes(*sent),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_is_read_behind_anything() {
        let stamp = Stamp { stream: 9, index: 70_000, sent: 123_456_789_012 };
        let mut payload = vec![1, 2, 3];
        stamp.write(&mut payload);
        assert_eq!(payload.len(), 3 + LEN);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..payload.len() - 1]), None);
        assert_eq!(Stamp::read(&payload[payload.len() - LEN + 1..]), None);
        assert_eq!(Stamp::read(&[]), None);
    }
}
