//! How much work a change is, counted in tests: looks at one source or endpoint for another.

#[cfg(test)]
thread_local! {
    static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// So many looks were taken.
#[inline]
pub(super) fn count(looks: usize) {
    #[cfg(test)]
    WORK.with(|work| work.set(work.get().saturating_add(looks)));
    #[cfg(not(test))]
    let _ = looks;
}

/// What was counted on this thread since the last call.
#[cfg(test)]
pub(super) fn take() -> usize {
    WORK.with(std::cell::Cell::take)
}
