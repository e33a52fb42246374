//! How the sender sends.

use serde_json::{Value, json};

/// A way of sending that Chromium has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) codec: &'static str,
    /// Layers within each encoding, in Chromium's words.
    pub(crate) layers: &'static str,
    /// Three encodings rather than one.
    pub(crate) simulcast: bool,
    /// With the dependency descriptor.
    pub(crate) descriptor: bool,
    /// Frame heights that there are.
    pub(crate) heights: &'static [u32],
}

const ONE: &[u32] = &[720];
const TWO: &[u32] = &[360, 720];
const THREE: &[u32] = &[180, 360, 720];

const fn one(codec: &'static str, layers: &'static str, heights: &'static [u32]) -> Mode {
    Mode { codec, layers, simulcast: false, descriptor: true, heights }
}

/// Without the descriptor, as Jitsi Meet has it for all but AV1.
const fn plain(mode: Mode) -> Mode {
    Mode { descriptor: false, ..mode }
}

const fn simulcast(codec: &'static str, layers: &'static str) -> Mode {
    Mode { codec, layers, simulcast: true, descriptor: true, heights: THREE }
}

pub(crate) const MODES: &[Mode] = &[
    one("AV1", "L1T3", ONE),
    one("AV1", "L3T3", THREE),
    one("AV1", "L3T3_KEY", THREE),
    one("AV1", "L2T1", TWO),
    one("AV1", "S3T3", THREE),
    plain(one("VP9", "L1T3", ONE)),
    plain(one("VP9", "L3T3", THREE)),
    plain(one("VP9", "L3T3_KEY", THREE)),
    plain(one("VP9", "L2T1", TWO)),
    plain(one("VP9", "S3T3", THREE)),
    plain(simulcast("VP8", "L1T3")),
    plain(simulcast("H264", "L1T1")),
    one("VP9", "L3T3", THREE),
    one("VP9", "L3T3_KEY", THREE),
    one("VP9", "S3T3", THREE),
    simulcast("VP8", "L1T3"),
    plain(simulcast("VP9", "L1T3")),
    simulcast("AV1", "L1T3"),
    simulcast("H264", "L1T3"),
];

impl Mode {
    /// Its name, and what chooses it.
    pub(crate) fn name(&self) -> String {
        let encodings = if self.simulcast { "3x" } else { "" };
        let descriptor = if self.descriptor { "-DD" } else { "" };
        format!("{}-{encodings}{}{descriptor}", self.codec, self.layers)
    }

    /// What the page of the sender is told.
    pub(crate) fn sending(&self, kbps: u32) -> Value {
        json!({
            "codec": self.codec,
            "mode": self.layers,
            "rids": self.simulcast,
            "descriptor": self.descriptor,
            "kbps": kbps,
        })
    }

    /// The height that is shown to who asks for one: the highest that is not above it, or the lowest.
    pub(crate) fn height_for(&self, asked: u32) -> u32 {
        let fits = self.heights.iter().rev().find(|height| **height <= asked);
        fits.or(self.heights.first()).copied().unwrap_or(0)
    }

    pub(crate) fn top(&self) -> u32 {
        self.height_for(u32::MAX)
    }
}
