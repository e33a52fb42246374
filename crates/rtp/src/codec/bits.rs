//! Reads bits of sequence headers, the most significant first.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts of bits in one payload; a number has at most 31"
)]

/// A bit reader.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// Number of consecutive zero bytes, if (0, 0, 3) stands for (0, 0).
    zeros: Option<u8>,
    byte: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    /// Reads the bytes as they are.
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, zeros: None, byte: 0, left: 0 }
    }

    /// Skips the emulation prevention bytes of H.264 (section 7.4.1).
    pub(super) const fn with_emulation_prevention(data: &'a [u8]) -> Self {
        Self { data, at: 0, zeros: Some(0), byte: 0, left: 0 }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.data.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.byte = self.next_byte()?;
            if let Some(zeros) = self.zeros {
                let mut zeros = zeros;
                if zeros >= 2 && self.byte == 3 {
                    self.byte = self.next_byte()?;
                    zeros = 0;
                }
                self.zeros = Some(if self.byte == 0 { zeros.saturating_add(1) } else { 0 });
            }
            self.left = 8;
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left) & 1)
    }

    /// A number of at most 32 bits.
    pub(super) fn read(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some((value << 1) | self.bit()?))
    }

    /// A flag.
    pub(super) fn flag(&mut self) -> Option<bool> {
        Some(self.bit()? == 1)
    }

    /// An unsigned Exp-Golomb code below 2^31: ue(v) of H.264 section 9.1, uvlc() of AV1 section
    /// 4.10.3.
    pub(super) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 30 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }

    /// A number below `n`, which is between 1 and 2^31: ns(n) of AV1 section 4.10.7.
    pub(super) fn non_symmetric(&mut self, n: u32) -> Option<u32> {
        let width = n.checked_ilog2()? + 1;
        // This many values are one bit shorter.
        let short = (1 << width) - n;
        let value = self.read(width - 1)?;
        if value < short { Some(value) } else { Some((value << 1) - short + self.read(1)?) }
    }

    /// A signed Exp-Golomb code: se(v) of H.264 section 9.1.1.
    pub(super) fn signed_exp_golomb(&mut self) -> Option<i32> {
        let value = self.exp_golomb()? as i32;
        Some(if value & 1 == 1 { value / 2 + 1 } else { -(value / 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes() {
        // 1, 010, 011, 00100, 00101
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.exp_golomb().unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.signed_exp_golomb().unwrap()).collect();
        assert_eq!(read, [0, 1, -1, 2, -2]);
        assert_eq!(Bits::new(&[0; 20]).exp_golomb(), None);
    }

    #[test]
    fn non_symmetric_numbers() {
        // Of five values 0, 1 and 2 take two bits, 3 and 4 take three: 00 01 10 110 111.
        let mut bits = Bits::new(&[0b0001_1011, 0b0111_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.non_symmetric(5).unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        assert_eq!(Bits::new(&[]).non_symmetric(1), Some(0));
        assert_eq!(Bits::new(&[]).non_symmetric(2), None);
    }

    #[test]
    fn emulation_prevention() {
        let data = [0, 0, 3, 1];
        assert_eq!(Bits::with_emulation_prevention(&data).read(24), Some(1));
        assert_eq!(Bits::new(&data).read(24), Some(3));
        assert_eq!(Bits::with_emulation_prevention(&data).read(25), None);
    }
}
