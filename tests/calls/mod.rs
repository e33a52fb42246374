//! Calls of real browsers through a bridge: what the tests of the page and those of links share.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod bridge;
pub(crate) mod chromium;
pub(crate) mod participant;

use std::time::Duration;

/// How long a condition may take. A machine that does much else is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
