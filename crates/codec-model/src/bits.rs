//! Bits in network order. Written and read here independently: the bridge's own reader must not
//! share a bug with what judges it.

/// Writes bits, most significant first.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    len: usize,
}

impl BitWriter {
    /// The low `n` bits of a value.
    pub(crate) fn put(&mut self, value: u32, n: usize) {
        for bit in (0..n).rev() {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let one = value >> bit & 1 == 1;
            self.bytes[self.len / 8] |= u8::from(one) << (7 - self.len % 8);
            self.len += 1;
        }
    }

    /// Writes one of `n` values, `ns(n)` of AV1 section 4.10.7.
    pub(crate) fn put_one_of(&mut self, value: u32, n: u32) {
        let width = n.ilog2() as usize + 1;
        let short = (1u32 << width) - n;
        if value < short {
            self.put(value, width - 1);
        } else {
            self.put(value + short, width);
        }
    }

    /// `ue(v)` of H.264 section 9.1.
    pub(crate) fn put_exp_golomb(&mut self, value: u32) {
        let width = (value + 1).ilog2() as usize;
        self.put(0, width);
        self.put(value + 1, width + 1);
    }

    /// Returns the bytes, the last one padded with zeros.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads bits, most significant first.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// From the first bit of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `n` bits; `None` at the end.
    pub(crate) fn take(&mut self, n: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..n {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// One bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// See [`BitWriter::put_one_of`].
    pub(crate) fn take_one_of(&mut self, n: u32) -> Option<u32> {
        let width = n.ilog2() as usize + 1;
        let short = (1u32 << width) - n;
        let value = self.take(width - 1)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1 | self.take(1)?) - short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for n in 1..40 {
            for value in 0..n {
                let mut w = BitWriter::default();
                w.put(5, 3);
                w.put_one_of(value, n);
                w.put(0x1_2345, 17);
                let bytes = w.finish();
                let mut r = BitReader::new(&bytes);
                assert_eq!(r.take(3), Some(5));
                assert_eq!(r.take_one_of(n), Some(value), "{value} of {n}");
                assert_eq!(r.take(17), Some(0x1_2345));
                assert_eq!(r.take(8), None);
            }
        }
    }

    #[test]
    fn exp_golomb_codes() {
        let code = |value| {
            let mut w = BitWriter::default();
            w.put_exp_golomb(value);
            w.finish()
        };
        assert_eq!(code(0), [0b1000_0000]);
        assert_eq!(code(2), [0b0110_0000]);
        assert_eq!(code(7), [0b0001_0000]);
    }
}
