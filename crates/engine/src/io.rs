//! A shard's sockets: binding them, and sending what the core writes.
#![expect(clippy::arithmetic_side_effects, reason = "counters of 64 bits")]

use std::{net::SocketAddr, sync::Arc};

use rialto_sys::{SendBatch, SocketOptions, UdpSocket};
use tracing::warn;

use super::{
    api::{EngineConfig, StartError},
    arena::SendArena,
    dest::Dest,
};

/// Size of the send buffer: a fan-out of a few packets to some hundred receivers, and small enough
/// to stay in the second-level cache between sealing and sending.
const ARENA_BYTES: usize = 256 << 10;

/// Messages per socket that are collected before they are sent.
const ARENA_MESSAGES: usize = 512;

/// Attempts to find a port that is free on all addresses, when the system is to choose it.
const PORT_ATTEMPTS: usize = 16;

/// The sockets of all shards.
#[derive(Debug)]
pub struct BoundSockets {
    /// The sockets of each shard, one per address of [`EngineConfig::bind`] and in that order.
    pub shards: Vec<Vec<UdpSocket>>,
    /// The addresses in the same order, with the real port.
    pub local_addrs: Vec<SocketAddr>,
}

/// Binds `config.bind` for each shard. Warns with the name of the sysctl where the kernel grants
/// less buffer than requested.
///
/// # Errors
/// An address cannot be bound, for example because its port is in use, even by another process of
/// the same user.
pub fn bind_sockets(config: &EngineConfig) -> Result<BoundSockets, StartError> {
    let mut attempt = 1;
    let (shards, local_addrs) = loop {
        match try_bind(config) {
            // The port that was free on the first address may be taken on the next.
            Err(StartError::Bind { addr, .. })
                if attempt < PORT_ATTEMPTS
                    && config.bind.iter().any(|a| a.port() == 0 && a.ip() == addr.ip()) =>
            {
                attempt += 1;
            }
            bound => break bound?,
        }
    };
    if let Some(socket) = shards.iter().flatten().next() {
        warn_of_small_buffers(socket, config.socket_buffer);
    }
    Ok(BoundSockets { shards, local_addrs })
}

fn try_bind(config: &EngineConfig) -> Result<(Vec<Vec<UdpSocket>>, Vec<SocketAddr>), StartError> {
    let mut options = SocketOptions {
        reuse_port: false,
        receive_buffer: config.socket_buffer,
        send_buffer: config.socket_buffer,
        gro: config.gro,
    };
    let mut local_addrs = Vec::new();
    let mut chosen = 0;
    for &addr in &config.bind {
        let mut addr = addr;
        if addr.port() == 0 {
            addr.set_port(chosen);
        }
        // With SO_REUSEPORT the kernel would let a second process of this user bind the address
        // too, and could choose a port that another process of ours shares. So the address is first
        // bound without it.
        let probe = bind(addr, &options)?.local_addr();
        addr.set_port(probe.port());
        chosen = probe.port();
        local_addrs.push(addr);
    }
    options.reuse_port = true;
    let shard = || local_addrs.iter().map(|&addr| bind(addr, &options)).collect();
    let shards = (0..config.shards.max(1)).map(|_| shard()).collect::<Result<_, _>>()?;
    Ok((shards, local_addrs))
}

fn bind(addr: SocketAddr, options: &SocketOptions) -> Result<UdpSocket, StartError> {
    UdpSocket::bind(addr, options).map_err(|source| StartError::Bind { addr, source })
}

fn warn_of_small_buffers(socket: &UdpSocket, wanted: usize) {
    let buffers = [
        ("receive", "net.core.rmem_max", socket.receive_buffer()),
        ("send", "net.core.wmem_max", socket.send_buffer()),
    ];
    for (which, sysctl, obtained) in buffers {
        if let Ok(obtained) = obtained
            && obtained < wanted
        {
            warn!(
                "the kernel grants a UDP {which} buffer of {obtained} bytes where {wanted} are \
                 wanted, and bursts may be lost; set the sysctl {sysctl}={wanted}"
            );
        }
    }
}

/// Counters of sending since the start. They count datagrams unless they say otherwise.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SendCounters {
    /// Accepted by the kernel.
    pub datagrams: u64,
    /// System calls.
    pub calls: u64,
    /// Messages passed to the kernel; with GSO, one may hold several datagrams.
    pub messages: u64,
    /// Refused by the kernel, one at a time.
    pub failed: u64,
    /// Dropped because the socket buffer was full.
    pub blocked: u64,
    /// GSO messages that were refused and then sent datagram by datagram.
    pub gso_refused: u64,
    /// Number of messages with 1, 2, 3–4, 5–8, 9–16, 17–32 and 33–64 datagrams.
    pub gso_lengths: [u64; 7],
}

/// Collects datagrams, written in place, and sends them when full or when told to.
#[derive(Debug)]
pub struct SocketOutbox {
    sockets: Arc<[UdpSocket]>,
    arena: SendArena,
    batch: SendBatch,
    counters: SendCounters,
}

impl SocketOutbox {
    /// Creates an outbox over a shard's sockets, which [`Dest::socket`] indexes.
    pub fn new(sockets: Vec<UdpSocket>, gso: bool) -> Self {
        let gso = gso && sockets.iter().all(UdpSocket::gso);
        let mut arena = SendArena::new(ARENA_BYTES, ARENA_MESSAGES, sockets.len());
        arena.set_coalesce(gso);
        Self {
            sockets: sockets.into(),
            arena,
            batch: SendBatch::new(gso),
            counters: SendCounters::default(),
        }
    }

    /// The sockets.
    pub fn sockets(&self) -> &Arc<[UdpSocket]> {
        &self.sockets
    }

    /// Counters of sending.
    pub fn counters(&self) -> &SendCounters {
        &self.counters
    }

    /// Returns room for a datagram of up to `max_len` bytes; sends what was collected if there is
    /// no room. `None` if there is no such socket, or a datagram cannot be that long.
    pub fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]> {
        if self.arena.is_full(max_len) {
            self.send();
        }
        self.arena.reserve(*dest, max_len)
    }

    /// Makes the first `len` bytes of the reservation a datagram; 0 discards it.
    pub fn commit(&mut self, len: usize) {
        self.arena.commit(len);
    }

    /// Sends everything. What a socket does not accept now is dropped and counted: its buffer
    /// already holds more than a receiver should ever wait for.
    pub fn send(&mut self) {
        if self.arena.is_empty() {
            return;
        }
        for (index, socket) in self.sockets.iter().enumerate() {
            let messages = self.arena.messages(index);
            if messages.is_empty() {
                continue;
            }
            let sent = self.batch.send(socket, self.arena.bytes(), messages);
            let counters = &mut self.counters;
            counters.datagrams += sent.datagrams as u64;
            counters.calls += sent.calls as u64;
            counters.messages += messages.len() as u64;
            counters.failed += sent.failed as u64;
            counters.blocked += sent.blocked as u64;
            counters.gso_refused += sent.gso_refused as u64;
            for message in messages {
                let class = message.count().next_power_of_two().ilog2() as usize;
                if let Some(count) = counters.gso_lengths.get_mut(class) {
                    *count += 1;
                }
            }
            if sent.gso_given_up {
                warn!("UDP segmentation offload is refused, and no longer used by this shard");
                self.arena.set_coalesce(false);
            }
        }
        self.arena.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn config(bind: &[&str], shards: u16) -> EngineConfig {
        EngineConfig {
            bind: bind.iter().map(|addr| addr.parse().unwrap()).collect(),
            shards,
            socket_buffer: 1 << 16,
            ..EngineConfig::default()
        }
    }

    #[test]
    fn all_shards_and_families_share_one_chosen_port() {
        let bound = bind_sockets(&config(&["127.0.0.1:0", "[::1]:0"], 3)).unwrap();
        let port = bound.local_addrs[0].port();
        assert_ne!(port, 0);
        assert_eq!(bound.local_addrs[1].port(), port);
        for shard in &bound.shards {
            let addrs: Vec<_> = shard.iter().map(UdpSocket::local_addr).collect();
            assert_eq!(addrs, bound.local_addrs);
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_it() {
        let first = bind_sockets(&config(&["127.0.0.1:0"], 1)).unwrap();
        let addr = first.local_addrs[0];
        let error = bind_sockets(&config(&[&addr.to_string()], 1)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot bind UDP {addr}: ")), "{error}");
    }

    #[test]
    fn the_outbox_sends_when_told_and_when_full() {
        let bound = bind_sockets(&config(&["127.0.0.1:0"], 1)).unwrap();
        let to = bind_sockets(&config(&["127.0.0.1:0"], 1)).unwrap();
        to.shards[0][0].drop_incoming().unwrap();
        let mut outbox = SocketOutbox::new(bound.shards.into_iter().next().unwrap(), true);
        let remote = to.local_addrs[0];
        let local_ip = Some(IpAddr::from([127, 0, 0, 1]));
        let dest = Dest { remote, local_ip, socket: 0 };
        for _ in 0..300 {
            outbox.reserve(&dest, 1200).unwrap().fill(7);
            outbox.commit(1000);
        }
        let early = outbox.counters().datagrams;
        assert!((200..300).contains(&early), "{early}");
        outbox.send();
        outbox.send();
        let counters = *outbox.counters();
        assert_eq!((counters.datagrams, counters.failed, counters.blocked), (300, 0, 0));
        assert_eq!(counters.gso_lengths.iter().sum::<u64>(), counters.messages);
        assert!(outbox.reserve(&Dest { socket: 1, ..dest }, 10).is_none());
        assert!(outbox.reserve(&dest, 100_000).is_none());
    }
}
