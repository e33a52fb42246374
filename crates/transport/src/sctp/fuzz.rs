//! Entry point for fuzzing: a script of packets into an association that a peer has set up.

use std::time::{Duration, Instant};

use super::{MAX_HELD, Open, Sctp, SctpEvent, TransportCounters};

/// Each byte of the script chooses the next step, the following one the length of its data.
/// Whatever arrives, the memory that a peer can cause stays bounded, and the library does not
/// panic.
pub fn script(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let [kind, length, tail @ ..] = rest {
        let (chunk, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        world.play(*kind, chunk);
        rest = tail;
    }
    assert_eq!(world.counters.sctp_panics, 0, "the library panicked");
}

/// A DCEP message is either refused or understood completely.
pub fn dcep(message: &[u8]) {
    if let Ok(open) = Open::parse(message) {
        assert_eq!(12 + open.label.len() + open.protocol.len(), message.len());
    }
}

struct World {
    sctp: Sctp,
    counters: TransportCounters,
    now: Instant,
    /// Verification tag of packets to the bridge.
    tag: [u8; 4],
    tsn: u32,
}

impl World {
    fn new() -> Self {
        let (sctp, counters) = (Sctp::default(), TransportCounters::default());
        let mut world = Self { sctp, counters, now: Instant::now(), tag: [0; 4], tsn: 1 };
        world.set_up();
        world
    }

    /// INIT, INIT ACK, COOKIE ECHO (RFC 9260 section 5.1).
    fn set_up(&mut self) {
        self.tag = [0; 4];
        let mut init = vec![1, 0, 0, 20];
        // Another tag than before, once data were sent: the peer begins anew.
        init.extend(self.tsn.to_be_bytes());
        init.extend([0, 2, 0, 0, 0, 64, 0, 64]);
        init.extend(self.tsn.to_be_bytes());
        for answer in self.deliver(&init) {
            let (Some(2), Some(tag)) = (answer.get(12), answer.get(16..20)) else { continue };
            self.tag.copy_from_slice(tag);
            if let Some(cookie) = parameter(answer.get(32..).unwrap_or_default(), 7) {
                let length = cookie.len() as u16 + 4;
                let echo = [&[10, 0], &length.to_be_bytes()[..], cookie].concat();
                self.deliver(&echo);
            }
        }
    }

    fn play(&mut self, kind: u8, chunk: &[u8]) {
        match kind & 7 {
            0 => self.sctp.handle(self.now, chunk, &mut self.counters),
            1 | 2 => drop(self.deliver(chunk)),
            3 => {
                self.now += Duration::from_millis(10 * chunk.len() as u64);
                self.sctp.handle_timeout(self.now, &mut self.counters);
            }
            4 => {
                let text = String::from_utf8_lossy(chunk);
                let _ = self.sctp.send(self.now, &text, &mut self.counters);
            }
            5 => self.set_up(),
            _ => self.data(kind, chunk),
        }
        self.sctp.take_events();
        assert!(self.sctp.held.bytes() <= MAX_HELD, "{} bytes", self.sctp.held.bytes());
    }

    /// A DATA chunk in sequence: the first byte is stream and PPID, the bits of `kind` its flags.
    fn data(&mut self, kind: u8, chunk: &[u8]) {
        let Some((first, payload)) = chunk.split_first() else { return };
        let length = payload.len() as u16 + 16;
        let mut data = vec![0, kind >> 3 & 7];
        data.extend(length.to_be_bytes());
        data.extend(self.tsn.to_be_bytes());
        data.extend([0, first >> 4, 0, kind >> 6]);
        data.extend([0, 0, 0, 50 + (first & 7)]);
        data.extend(payload);
        self.tsn = self.tsn.wrapping_add(1);
        self.deliver(&data);
    }

    /// Delivers chunks in a packet with the right tag and checksum, and returns the answers.
    fn deliver(&mut self, chunks: &[u8]) -> Vec<Vec<u8>> {
        let mut packet = vec![0x13, 0x88, 0x13, 0x88];
        packet.extend(self.tag);
        packet.extend([0; 4]);
        packet.extend(chunks);
        packet.resize(packet.len().next_multiple_of(4), 0);
        let sum = crc32c(&packet);
        if let Some(field) = packet.get_mut(8..12) {
            field.copy_from_slice(&sum.to_le_bytes());
        }
        self.sctp.handle(self.now, &packet, &mut self.counters);
        let packet = |event| {
            if let SctpEvent::Packet(packet) = event { Some(packet.to_vec()) } else { None }
        };
        self.sctp.take_events().into_iter().filter_map(packet).collect()
    }
}

/// The value of the first parameter of that type.
fn parameter(mut parameters: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (head, _) = parameters.split_first_chunk::<4>()?;
        let [kind, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        let length = usize::from(length).max(4);
        if kind == wanted {
            return parameters.get(4..length);
        }
        parameters = parameters.get(length.next_multiple_of(4)..)?;
    }
}

/// The checksum of SCTP (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_script_can_open_the_channel_and_send() {
        let mut world = World::new();
        assert_eq!(world.counters.sctp_connected, 1);
        let open = Open {
            unordered: false,
            reliability: super::super::Reliability::Reliable,
            label: "l",
            protocol: "p",
        };
        world.data(0b11_110, &[&[0][..], &open.write()].concat());
        assert_eq!(world.counters.channels_opened, 1);
        world.data(0b11_110, &[&[0][..], &open.write()].concat());
        // The second has the same sequence number and is not delivered; the next one in sequence
        // is.
        world.data(0b0101_1110, b"\x01text");
        assert_eq!(world.counters.channels_opened, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_script_is_survived(data in prop::collection::vec(any::<u8>(), 0..800)) {
            script(&data);
        }
    }
}
