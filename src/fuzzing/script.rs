//! The bytes of a fuzzer, read as decisions.

/// What is left of an input.
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl<'a> Script<'a> {
    /// The next decision; `None` at the end.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The same, 0 at the end.
    pub(crate) fn any(&mut self) -> u8 {
        self.byte().unwrap_or_default()
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.any()) % of.len()]
    }

    /// Up to as many bytes as the next two give.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = u16::from_be_bytes([self.any(), self.any()]);
        let (bytes, rest) = self.0.split_at(usize::from(len).min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
