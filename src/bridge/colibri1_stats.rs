//! Statistics that JVB published with COLIBRI 1 under names that it dropped later.

use super::BridgeStats;
use crate::stats::Stat;

/// Sizes are counted up to here; the last count has the larger ones too.
const SIZES: usize = 22;

/// The statistics that [`super::published`] lacks.
pub(super) fn colibri1_stats(stats: &BridgeStats) -> Vec<(&'static str, Stat)> {
    vec![
        ("videochannels", stats.endpoints.into()),
        ("videostreams", stats.video_streams.into()),
        ("loss_rate_download", stats.incoming_loss.into()),
        ("loss_rate_upload", stats.outgoing_loss.into()),
        ("rtp_loss", (stats.incoming_loss + stats.outgoing_loss).into()),
        ("conference_sizes", sizes(&stats.conference_sizes)),
        ("conferences_by_audio_senders", sizes(&stats.conference_audio_senders)),
        ("conferences_by_video_senders", sizes(&stats.conference_video_senders)),
    ]
}

/// How many conferences have each size, as a JSON array.
fn sizes(conferences: &[usize]) -> Stat {
    let mut counts = [0u32; SIZES];
    for size in conferences {
        if let Some(count) = counts.get_mut((*size).min(SIZES - 1)) {
            *count += 1;
        }
    }
    let counts = counts.map(|count| count.to_string()).join(",");
    Stat::Text(format!("[{counts}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_an_array_of_22() {
        let stats = BridgeStats {
            conference_sizes: vec![2, 2, 0, 21, 400],
            video_streams: 9,
            incoming_loss: 0.25,
            outgoing_loss: 0.5,
            ..BridgeStats::default()
        };
        let all = colibri1_stats(&stats);
        let text = |name| all.iter().find(|(known, _)| *known == name).unwrap().1.to_string();
        assert_eq!(text("conference_sizes"), "[1,0,2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2]");
        assert_eq!((text("videostreams"), text("rtp_loss")), ("9".into(), "0.75".into()));
    }
}
