//! TUN devices: a process reads and writes the IP packets of a network interface.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use crate::socket::check;

/// A TUN device. Dropping it removes the device.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
}

impl Tun {
    /// Creates a device in the network namespace of the calling thread, down and without addresses.
    /// `%d` in the name stands for the first free number. The device may be moved to another
    /// namespace afterwards.
    ///
    /// # Errors
    /// `NotFound` where there is no `/dev/net/tun`, `PermissionDenied` without `CAP_NET_ADMIN`,
    /// `InvalidInput` when the name is longer than the 15 bytes of the kernel.
    pub fn create(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        if name.len() >= libc::IFNAMSIZ || name.bytes().any(|byte| byte == 0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        let mut request =
            libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives through the call; its name ends
        // with a zero, as it is shorter than the array; the descriptor is open.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        let chosen = request.ifr_name.iter().take_while(|&&byte| byte != 0);
        let chosen: Vec<u8> = chosen.map(|&byte| byte as u8).collect();
        Ok(Self { file, name: String::from_utf8_lossy(&chosen).into_owned() })
    }

    /// The name that the kernel gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one IP packet that the kernel routed into the device; what exceeds the buffer is cut
    /// off.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Passes one IP packet to the kernel, as if it came from a network.
    ///
    /// # Errors
    /// `InvalidInput` when it is no IP packet, an I/O error while the device is down.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_name_and_no_packets_while_it_is_down() {
        match Tun::create("rlxtest%d") {
            Ok(tun) => {
                assert!(tun.name().starts_with("rlxtest") && !tun.name().contains('%'));
                let other = Tun::create("rlxtest%d").unwrap();
                assert_ne!(tun.name(), other.name());
                let error = tun.recv(&mut [0; 64]).unwrap_err();
                assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert!(tun.send(&[0x45; 20]).is_err(), "it is down");
            }
            Err(error) => println!("SKIPPED: no TUN device may be created here: {error}"),
        }
    }

    #[test]
    fn a_name_that_the_kernel_cannot_hold_is_refused() {
        // Where the device node cannot be opened, that is the error.
        assert!(Tun::create("a-name-of-16-byt").is_err());
        assert!(Tun::create("zero\0").is_err());
    }
}
