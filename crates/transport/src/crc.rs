//! The two 32-bit checksums of STUN and SCTP, both reflected.

/// CRC-32 of ITU V.42, as FINGERPRINT of STUN uses it (RFC 8489 section 14.7).
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    sum(&ITU, bytes)
}

/// CRC-32C, as SCTP uses it (RFC 9260 appendix A).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    sum(&CASTAGNOLI, bytes)
}

fn sum(table: &[u32; 256], bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        let index = (crc ^ u32::from(byte)) & 0xff;
        table[index as usize] ^ (crc >> 8)
    })
}

static ITU: [u32; 256] = table(0xedb8_8320);
static CASTAGNOLI: [u32; 256] = table(0x82f6_3b78);

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the CRC catalogues, over the digits from one to nine.
    #[test]
    fn check_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
