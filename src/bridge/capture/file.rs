//! The file format: pcap (draft-ietf-opsawg-pcap), link type raw IP. Each packet is in a UDP datagram between
//! addresses that nobody has (RFC 5737), so that no address of a participant is in the file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rialto_engine::Tapped;

/// Bytes of a file; more is not written.
const MAX_BYTES: u64 = 256 << 20;

const BRIDGE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 10_000);
const ENDPOINT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 2), 20_000);

/// IPv4 and UDP headers.
const HEADERS: usize = 20 + 8;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct PcapFile {
    file: BufWriter<File>,
    written: u64,
    identification: u16,
}

impl PcapFile {
    /// Creates a file that only its owner can read: it holds what participants say.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut file = BufWriter::new(file);
        let mut head = Vec::with_capacity(24);
        head.extend(0xa1b2_c3d4_u32.to_le_bytes());
        head.extend(2_u16.to_le_bytes());
        head.extend(4_u16.to_le_bytes());
        head.extend([0; 8]);
        // Longest packet, and LINKTYPE_RAW.
        head.extend(65_535_u32.to_le_bytes());
        head.extend(101_u32.to_le_bytes());
        file.write_all(&head)?;
        // A reader finds a valid file, if an empty one.
        file.flush()?;
        Ok(Self { file, written: head.len() as u64, identification: 0 })
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.written
    }

    /// Flushes, so that a reader of the file finds what was written so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Adds a packet at a time since 1970, µs. False: the file is full.
    pub(super) fn write(&mut self, packet: &Tapped, at_us: u64) -> io::Result<bool> {
        let len = HEADERS + packet.bytes.len();
        let (Ok(total), true) = (u16::try_from(len), self.written < MAX_BYTES) else {
            self.file.flush()?;
            return Ok(false);
        };
        let mut record = Vec::with_capacity(16 + len);
        record.extend(((at_us / 1_000_000) as u32).to_le_bytes());
        record.extend(((at_us % 1_000_000) as u32).to_le_bytes());
        record.extend(u32::from(total).to_le_bytes());
        record.extend(u32::from(total).to_le_bytes());
        let (from, to) = if packet.outgoing { (BRIDGE, ENDPOINT) } else { (ENDPOINT, BRIDGE) };
        self.identification = self.identification.wrapping_add(1);
        record.extend(ipv4(total, self.identification, from.0, to.0));
        record.extend(from.1.to_be_bytes());
        record.extend(to.1.to_be_bytes());
        record.extend((total - 20).to_be_bytes());
        // No checksum (RFC 768).
        record.extend([0; 2]);
        record.extend(&packet.bytes);
        self.file.write_all(&record)?;
        self.written += record.len() as u64;
        Ok(true)
    }
}

/// A header without options (RFC 791 section 3.1).
fn ipv4(total: u16, identification: u16, from: Ipv4Addr, to: Ipv4Addr) -> [u8; 20] {
    let mut header = [0; 20];
    let [a, b] = total.to_be_bytes();
    let [c, d] = identification.to_be_bytes();
    // Version 4, five words; do not fragment; time to live 64; UDP.
    header[..12].copy_from_slice(&[0x45, 0, a, b, c, d, 0x40, 0, 64, 17, 0, 0]);
    header[12..16].copy_from_slice(&from.octets());
    header[16..].copy_from_slice(&to.octets());
    let words = header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_pcap_of_udp() {
        let name = format!("rialto-pcap-{}.pcap", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = PcapFile::create(&path).unwrap();
        assert!(PcapFile::create(&path).is_err(), "another file is never written over");
        for (outgoing, bytes) in [(false, vec![0x80, 111, 0, 1]), (true, vec![0x81, 201, 0, 0, 9])]
        {
            assert!(file.write(&Tapped { outgoing, bytes }, 1_700_000_000_250_000).unwrap());
        }
        drop(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(16), word(20)), (0xa1b2_c3d4, 65_535, 101));
        let mut at = 24;
        let mut packets = Vec::new();
        while at < bytes.len() {
            assert_eq!((word(at), word(at + 4)), (1_700_000_000, 250_000));
            let len = word(at + 8) as usize;
            let packet = &bytes[at + 16..at + 16 + len];
            let words = packet[..20].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
            let sum = words.sum::<u32>();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the checksum fits");
            assert_eq!(usize::from(packet[2]) << 8 | usize::from(packet[3]), len);
            assert_eq!(usize::from(packet[25]), len - 20, "length of UDP");
            packets.push((packet[15], packet[28..].to_vec()));
            at += 16 + len;
        }
        assert_eq!(packets, [(2, vec![0x80, 111, 0, 1]), (1, vec![0x81, 201, 0, 0, 9])]);
    }
}
