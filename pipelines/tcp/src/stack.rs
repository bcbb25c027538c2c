//! `smoltcp` as one stack for many connections, each with a socket set of its own: a packet in, packets out.

use causeway_core::Instant;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{ConnectError, Socket};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::net::SocketAddr;

/// Packets that one look after a connection sends, at most.
const PACKETS: usize = 32;
/// Buffers of packets that are kept to be used again.
const KEPT: usize = 64;

/// The stack that all connections of a worker share. It has one packet in, many out, and the address of the connection
/// that it works for.
pub struct Stack {
    interface: Interface,
    wire: Wire,
    local: Option<IpAddress>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("local", &self.local).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Wire {
    mtu: usize,
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    /// Buffers that are free.
    spare: Vec<Vec<u8>>,
    /// `incoming` was not looked at yet.
    fresh: bool,
}

impl Wire {
    fn keep(&mut self, packet: Vec<u8>) {
        if self.spare.len() < KEPT {
            self.spare.push(packet);
        }
    }
}

struct Incoming<'a>(&'a [u8]);
struct Outgoing<'a>(&'a mut Vec<Vec<u8>>, &'a mut Vec<Vec<u8>>);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = self.1.pop().unwrap_or_default();
        packet.clear();
        packet.resize(len, 0);
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        let packet = self.incoming.as_deref()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing, &mut self.spare)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing, &mut self.spare))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // They are checked before the stack gets a packet, and computed when it has given one.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

impl Stack {
    /// A stack that sends no packet longer than `mtu` octets.
    #[must_use]
    pub fn new(seed: u64, mtu: usize) -> Self {
        let mut wire = Wire { mtu, ..Wire::default() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let interface = Interface::new(config, &mut wire, smoltcp::time::Instant::ZERO);
        Self { interface, wire, local: None }
    }

    /// From here on `mtu` octets are the longest packet that is sent.
    pub const fn set_mtu(&mut self, mtu: usize) {
        self.wire.mtu = mtu;
    }

    fn work_for(&mut self, local: IpAddress) {
        if self.local != Some(local) {
            let bits = if matches!(local, IpAddress::Ipv4(_)) { 32 } else { 128 };
            self.interface.update_ip_addrs(|list| {
                list.clear();
                // The list has room for two.
                let _ = list.push(IpCidr::new(local, bits));
            });
            self.local = Some(local);
        }
    }

    /// An empty buffer, for a packet that the stack is to be given.
    #[must_use]
    pub fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.wire.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        self.wire.keep(buffer);
    }

    /// Opens a connection from a socket that has none.
    ///
    /// # Errors
    /// As the socket has it.
    pub fn connect(
        &mut self,
        socket: &mut Socket<'_>,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), ConnectError> {
        self.work_for(local.ip().into());
        socket.connect(self.interface.context(), remote, local)
    }

    /// Gives the sockets a packet for the address `local` of theirs. What it is answered with at once is among
    /// [`Stack::outgoing`].
    pub fn give(
        &mut self,
        local: std::net::IpAddr,
        sockets: &mut SocketSet<'_>,
        packet: Vec<u8>,
        now: Instant,
    ) {
        self.work_for(local.into());
        self.wire.incoming = Some(packet);
        self.wire.fresh = true;
        self.interface.poll_ingress_single(stack_time(now), &mut self.wire, sockets);
        if let Some(used) = self.wire.incoming.take() {
            self.wire.keep(used);
        }
    }

    /// Lets the sockets send, from `local`. A bounded number of packets is left in [`Stack::outgoing`].
    pub fn poll(&mut self, local: std::net::IpAddr, sockets: &mut SocketSet<'_>, now: Instant) {
        self.work_for(local.into());
        for _ in 0..PACKETS {
            let before = self.wire.outgoing.len();
            self.interface.poll_egress(stack_time(now), &mut self.wire, sockets);
            if self.wire.outgoing.len() == before {
                break;
            }
        }
    }

    /// What is to be sent, in order. Whoever takes a packet out may give its buffer back.
    pub const fn outgoing(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.wire.outgoing
    }

    /// When the sockets are to be polled next; nothing if nothing is under way.
    pub fn poll_at(
        &mut self,
        local: std::net::IpAddr,
        sockets: &SocketSet<'_>,
        now: Instant,
    ) -> Option<Instant> {
        self.work_for(local.into());
        let at = self.interface.poll_at(stack_time(now), sockets)?;
        Some(Instant::from_micros(u64::try_from(at.total_micros()).unwrap_or(0)))
    }
}

fn stack_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
