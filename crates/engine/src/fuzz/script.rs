//! Reads the bytes of a fuzzer as decisions.

/// The rest of an input.
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl<'a> Script<'a> {
    /// The next decision; `None` at the end.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next decision; 0 at the end.
    pub(super) fn any(&mut self) -> u8 {
        self.byte().unwrap_or_default()
    }

    /// Two bytes as a number.
    pub(super) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.any(), self.any()])
    }

    /// As many bytes as the next one says.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = self.byte().map_or(0, usize::from).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}
