//! What a client would have seen of a video with layers, and whether its packets continue as one
//! encoder's.

use std::{collections::BTreeMap, time::Duration};

use rialto_codec_model::{Decoder, Network, Packet, Problem, Truth};

/// Packets are judged at this age: retransmissions have arrived by then.
const SETTLED: Duration = Duration::from_millis(1_500);
/// A picture of another height than wanted does not count this soon after a change of the request,
/// or after the start.
const SWITCHING: Duration = Duration::from_secs(1);
/// Most breaks that are reported in words.
const EXAMPLES: usize = 3;
/// How often the first keyframe is requested.
const KEYFRAME_RETRY: Duration = Duration::from_millis(500);

/// What was received and seen while a height was requested, within the measured window.
#[derive(Clone, Default, Debug)]
pub struct Watched {
    /// Duration.
    pub time: Duration,
    /// Packets.
    pub packets: u64,
    /// Bytes of them, above UDP.
    pub bytes: u64,
    /// Pictures that were decoded.
    pub pictures: u64,
    /// Pictures by height, without those of the first second after a change of the request.
    pub heights: BTreeMap<u16, u64>,
    /// The longest freeze.
    pub longest_freeze: Duration,
}

/// The results about a video at a receiver.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    /// By requested height.
    pub watched: Vec<Watched>,
    /// Packets that were judged, or will be.
    pub judged: u64,
    /// Packets that arrived before the first keyframe.
    pub headless: u64,
    /// Number of violations.
    pub breaks: u64,
    /// The first of them.
    pub examples: Vec<String>,
}

/// The request that applies to a packet.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its index.
    pub wish: usize,
    /// How long it has applied.
    pub age: Duration,
    /// Whether packets are being measured now.
    pub measuring: bool,
}

/// A picture in progress.
#[derive(Clone, Copy, Debug)]
struct Picture {
    id: (u8, u32),
    height: u16,
}

/// Tracks what would be seen of one video at one receiver.
#[derive(Debug)]
pub struct Screen {
    decoder: Decoder,
    network: Network<'static>,
    ssrc: Option<u32>,
    began: bool,
    asked: Option<Duration>,
    first_packet: Option<Duration>,
    last_packet: Option<Duration>,
    last_picture: Option<Duration>,
    picture: Option<Picture>,
    figures: Figures,
}

impl Screen {
    /// Creates one for a number of requested heights. `lossy`: packets are dropped on purpose.
    pub fn new(wishes: usize, lossy: bool) -> Self {
        let watched = vec![Watched::default(); wishes.max(1)];
        Self {
            decoder: Decoder::default(),
            network: if lossy { Network::LOSSY } else { Network { full: true, ..Network::FINE } },
            ssrc: None,
            began: false,
            asked: None,
            first_packet: None,
            last_packet: None,
            last_picture: None,
            picture: None,
            figures: Figures { watched, ..Figures::default() },
        }
    }

    /// Handles a packet of `len` bytes that arrived under an SSRC, or as a retransmission of one.
    /// Returns whether it begins the first keyframe.
    pub fn take(
        &mut self,
        now: Duration,
        ssrc: Option<u32>,
        packet: &Packet<'_>,
        len: usize,
        wanted: Wanted,
    ) -> bool {
        if ssrc.is_some() && self.ssrc != ssrc {
            self.restart();
            self.ssrc = ssrc;
        }
        self.count(now, len, wanted);
        let begins = !self.began
            && Truth::read(packet.payload).is_some_and(|truth| {
                truth.body.part == 0 && truth.spatial == 0 && truth.refs.is_empty()
            });
        self.began |= begins;
        if !self.began {
            // Before there were keys, packets may have been missed.
            self.figures.headless += u64::from(!packet.payload.is_empty());
            return false;
        }
        self.figures.judged += 1;
        self.decoder.take(now, packet);
        for shown in self.decoder.take_shown() {
            let id = (shown.encoding, shown.picture);
            match &mut self.picture {
                Some(picture) if picture.id == id => picture.height = shown.height,
                _ => self.next_picture(now, Picture { id, height: shown.height }, wanted),
            }
        }
        begins
    }

    fn count(&mut self, now: Duration, len: usize, wanted: Wanted) {
        self.first_packet.get_or_insert(now);
        let last = self.last_packet.replace(now).unwrap_or(now);
        let since = now.saturating_sub(last);
        if let Some(watched) =
            self.figures.watched.get_mut(wanted.wish).filter(|_| wanted.measuring)
        {
            watched.time += since;
            watched.packets += 1;
            watched.bytes += len as u64;
        }
    }

    /// Starts a picture, which completes the one before.
    fn next_picture(&mut self, now: Duration, next: Picture, wanted: Wanted) {
        let done = self.picture.replace(next);
        let since = self.last_picture.replace(now).map(|last| now.saturating_sub(last));
        let Some(watched) = self.figures.watched.get_mut(wanted.wish).filter(|_| wanted.measuring)
        else {
            return;
        };
        watched.pictures += 1;
        watched.longest_freeze = watched.longest_freeze.max(since.unwrap_or_default());
        let age = self.first_packet.map_or(Duration::ZERO, |first| now.saturating_sub(first));
        if let Some(done) = done.filter(|_| wanted.age.min(age) > SWITCHING) {
            *watched.heights.entry(done.height).or_default() += 1;
        }
    }

    /// Judges the packets that are old enough.
    pub fn settle(&mut self, now: Duration) {
        let until = now.saturating_sub(SETTLED);
        let problems = self.decoder.settle(until, &self.network);
        self.report(&problems);
    }

    /// Starts anew: the SSRC was another source's meanwhile.
    pub fn restart(&mut self) {
        let problems = self.decoder.settle(Duration::MAX, &self.network);
        self.report(&problems);
        self.decoder = Decoder::default();
        (self.began, self.ssrc) = (false, None);
    }

    fn report(&mut self, problems: &[Problem]) {
        self.figures.breaks += problems.len() as u64;
        let room = EXAMPLES.saturating_sub(self.figures.examples.len());
        self.figures.examples.extend(problems.iter().take(room).map(ToString::to_string));
    }

    /// Returns whether it requests a keyframe now, and counts the request.
    pub fn asks_for_keyframe(&mut self, now: Duration) -> bool {
        if self.began {
            return self.decoder.asks_for_keyframe(now);
        }
        let recent = |at: Option<Duration>| at.is_some_and(|at| now < at + KEYFRAME_RETRY);
        let asks = recent(self.last_packet) && !recent(self.asked);
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    /// The results so far.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }
}

#[cfg(test)]
mod tests {
    use rialto_codec_model::{Coded, Encoder, Mode};
    use rialto_rtp::Seq;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(33);
    const WANTED: Wanted = Wanted { wish: 1, age: Duration::from_secs(9), measuring: true };

    fn show(screen: &mut Screen, ssrc: u32, at: u32, seq: u16, coded: &Coded) -> bool {
        let packet = Packet {
            seq: Seq(seq),
            timestamp: at * 3_000,
            marker: coded.marker,
            codec: coded.codec,
            payload: &coded.payload,
            descriptor: coded.descriptor.as_deref(),
        };
        screen.take(INTERVAL * at, Some(ssrc), &packet, 1_000, WANTED)
    }

    /// Pictures from one to another, without packets of which the number is left out; numbered anew from `seq` on.
    fn play(
        screen: &mut Screen,
        encoder: &mut Encoder,
        ssrc: u32,
        pictures: std::ops::Range<u32>,
        gone: usize,
    ) {
        let (mut seq, mut count) = (100, 0);
        for at in pictures {
            for coded in encoder.picture(INTERVAL * at, at * 3_000) {
                count += 1;
                if count != gone {
                    show(screen, ssrc, at, seq, &coded);
                    seq += 1;
                }
            }
        }
    }

    #[test]
    fn what_goes_on_is_seen_and_whole() {
        let (mut screen, mut encoder) = (Screen::new(2, false), Encoder::new(Mode::AV1_L3T3, 1, 1));
        encoder.drops = 0.0;
        play(&mut screen, &mut encoder, 7, 0..150, 0);
        screen.settle(INTERVAL * 150);
        let figures = screen.figures();
        let watched = &figures.watched[1];
        assert_eq!((figures.breaks, figures.headless, watched.pictures), (0, 0, 150));
        assert!(watched.heights.keys().all(|height| *height == 720), "{watched:?}");
        assert!(watched.heights[&720] > 100 && watched.longest_freeze == INTERVAL, "{watched:?}");
        assert_eq!(watched.bytes, watched.packets * 1_000);
        assert_eq!(figures.watched[0].packets, 0);
    }

    #[test]
    fn a_packet_that_is_left_out_is_a_break_once_it_is_settled() {
        let (mut screen, mut encoder) = (Screen::new(1, false), Encoder::new(Mode::AV1_L3T3, 1, 1));
        play(&mut screen, &mut encoder, 7, 0..60, 50);
        assert_eq!(screen.figures().breaks, 0);
        screen.settle(INTERVAL * 150);
        let figures = screen.figures();
        assert!(figures.breaks > 0 && !figures.examples.is_empty(), "{figures:?}");
        assert!(figures.examples.len() <= EXAMPLES);
    }

    /// Its slot was another's meanwhile: nothing is expected to go on, but it begins with a keyframe.
    #[test]
    fn it_begins_anew_with_a_keyframe() {
        let (mut screen, mut encoder) = (Screen::new(2, false), Encoder::new(Mode::AV1_L3T3, 1, 1));
        play(&mut screen, &mut encoder, 7, 0..30, 0);
        play(&mut screen, &mut encoder, 8, 40..60, 0);
        assert_eq!(screen.figures().breaks, 0);
        assert!(screen.figures().headless > 20);
        assert!(screen.asks_for_keyframe(INTERVAL * 60));
        assert!(!screen.asks_for_keyframe(INTERVAL * 61), "not so soon again");
        let seen = screen.figures().watched[1].pictures;
        encoder.want_keyframe(0);
        play(&mut screen, &mut encoder, 8, 65..100, 0);
        screen.settle(INTERVAL * 200);
        assert_eq!(screen.figures().breaks, 0, "{:?}", screen.figures());
        assert!(screen.figures().watched[1].pictures > seen + 20);
    }
}
