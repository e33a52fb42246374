//! What the bridge answers, whichever way a request comes.

pub mod colibri1;
