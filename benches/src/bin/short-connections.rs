//! Load for proxies: short TCP connections, and a server for them. `scripts/bench splicer` runs both, in namespaces.
//!
//! ```text
//! short-connections serve ANSWER-OCTETS ADDRESS:PORT ..
//! short-connections load SECONDS AT-ONCE REQUEST-FILE ANSWER-OCTETS TARGET:PORT SOURCE ..
//! ```
//!
//! A connection is: connect, send the request, read the answer to its end, close. The server closes first, so that the
//! load's ports are free again at once. One thread each. `load` prints one line `done=.. failed=.. seconds=..` and the
//! latencies' quantiles, in microseconds.
//!
//! What it does not do: TLS. The request is octets from a file, a ClientHello for one.

#![forbid(unsafe_code)]

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", octets, addresses @ ..] if !addresses.is_empty() => {
            let addresses: Result<Vec<SocketAddr>, _> = addresses.iter().map(|a| a.parse()).collect();
            serve(octets.parse()?, &addresses?)
        }
        ["load", seconds, at_once, file, octets, target, sources @ ..] if !sources.is_empty() => {
            let sources: Result<Vec<IpAddr>, _> = sources.iter().map(|a| a.parse()).collect();
            Load {
                request: std::fs::read(file)?,
                answer: octets.parse()?,
                target: target.parse()?,
                sources: sources?,
                port: FIRST_PORT,
                source: 0,
            }
            .run(Duration::from_secs(seconds.parse()?), at_once.parse()?)
        }
        _ => Err(
            "usage: serve ANSWER-OCTETS ADDRESS:PORT .. | load SECONDS AT-ONCE REQUEST-FILE ANSWER-OCTETS \
                  TARGET:PORT SOURCE .."
                .into(),
        ),
    }
}

/// A TCP socket that does not block.
fn open(address: IpAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket =
        net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

/// What happened, of at most so many.
fn wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, at_most: Duration) -> Result<(), Errno> {
    events.clear();
    let time = rustix::event::Timespec {
        tv_sec: at_most.as_secs().cast_signed(),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&time)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

// --- the server -------------------------------------------------------------------------------------

/// Answers whatever comes with so many octets, and closes.
fn serve(octets: usize, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let answer = vec![b'x'; octets];
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut listeners = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        let socket = open(address.ip())?;
        net::bind(&socket, address)?;
        net::listen(&socket, 4096)?;
        epoll::add(&epoll, &socket, EventData::new_u64(i as u64), EventFlags::IN)?;
        listeners.push(socket);
    }
    println!("ready");
    let mut open: Vec<Option<OwnedFd>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 1 << 16]);
    loop {
        wait(&epoll, &mut events, Duration::from_secs(3600))?;
        for event in &events {
            let n = event.data.u64() as usize;
            if let Some(listener) = listeners.get(n) {
                while let Ok(socket) =
                    net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
                {
                    let at = free.pop().unwrap_or_else(|| {
                        open.push(None);
                        open.len() - 1
                    });
                    let data = EventData::new_u64((at + listeners.len()) as u64);
                    epoll::add(&epoll, &socket, data, EventFlags::IN)?;
                    open[at] = Some(socket);
                }
                continue;
            }
            let at = n - listeners.len();
            let Some(socket) = open[at].as_ref() else { continue };
            match rustix::io::read(socket, &mut buffer[..]) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                // (A short write is a short answer, which the load counts as a failure.)
                Ok(have) if have > 0 => {
                    let _ = rustix::io::write(socket, &answer);
                }
                Ok(_) | Err(_) => {}
            }
            open[at] = None;
            free.push(at);
        }
    }
}

// --- the load ---------------------------------------------------------------------------------------

const FIRST_PORT: u16 = 2048;
/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

struct Load {
    request: Vec<u8>,
    answer: usize,
    target: SocketAddr,
    sources: Vec<IpAddr>,
    port: u16,
    source: usize,
}

/// A connection under way.
struct Connection {
    socket: OwnedFd,
    began: Instant,
    sent: bool,
    have: usize,
}

impl Load {
    /// The next connection, of a source address and port that have not been used for the longest time.
    fn begin(&mut self, epoll: &OwnedFd, at: usize) -> Result<Connection, Errno> {
        self.source = (self.source + 1) % self.sources.len();
        if self.source == 0 {
            self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        let source = self.sources[self.source];
        let socket = open(source)?;
        net::bind(&socket, &SocketAddr::new(source, self.port))?;
        match net::connect(&socket, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(e) => return Err(e),
        }
        epoll::add(epoll, &socket, EventData::new_u64(at as u64), EventFlags::OUT)?;
        Ok(Connection { socket, began: Instant::now(), sent: false, have: 0 })
    }

    fn run(mut self, length: Duration, at_once: usize) -> Result<(), Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut open: Vec<Option<Connection>> = (0..at_once).map(|_| None).collect();
        let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 1 << 16]);
        let (mut done, mut failed, mut causes) = (0u64, 0u64, Vec::<String>::new());
        let mut times: Vec<u32> = Vec::new();
        let began = Instant::now();
        for (at, place) in open.iter_mut().enumerate() {
            *place = Some(self.begin(&epoll, at)?);
        }
        let mut looked = began;
        while began.elapsed() < length {
            wait(&epoll, &mut events, Duration::from_millis(100))?;
            for event in &events {
                let at = event.data.u64() as usize;
                let Some(connection) = open[at].as_mut() else { continue };
                let outcome = match self.go_on(&epoll, at, connection, &mut buffer) {
                    Ok(false) => continue,
                    Ok(true) => Ok(()),
                    Err(e) => Err(e),
                };
                match outcome {
                    Ok(()) => {
                        done += 1;
                        times.push(u32::try_from(connection.began.elapsed().as_micros()).unwrap_or(u32::MAX));
                    }
                    Err(cause) => {
                        failed += 1;
                        if causes.len() < 5 && !causes.contains(&cause) {
                            causes.push(cause);
                        }
                    }
                }
                open[at] = None;
                open[at] = self.again(&epoll, at);
            }
            if looked.elapsed() > Duration::from_secs(1) {
                looked = Instant::now();
                for (at, place) in open.iter_mut().enumerate() {
                    if place.as_ref().is_some_and(|c| c.began.elapsed() > PATIENCE) {
                        failed += 1;
                        *place = None;
                    }
                    if place.is_none() {
                        *place = self.again(&epoll, at);
                    }
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        times.sort_unstable();
        let quantile =
            |q: f64| times.get(((times.len() as f64 * q) as usize).min(times.len().saturating_sub(1)));
        let [p50, p99] = [0.5, 0.99].map(|q| quantile(q).copied().unwrap_or(0));
        println!("done={done} failed={failed} seconds={seconds:.3} p50_us={p50} p99_us={p99}");
        for cause in causes {
            println!("cause: {cause}");
        }
        Ok(())
    }

    /// Another connection; nothing for now if there can be none (a port that is still in use).
    fn again(&mut self, epoll: &OwnedFd, at: usize) -> Option<Connection> {
        (0..16).find_map(|_| self.begin(epoll, at).ok())
    }

    /// True if a connection has come to its proper end.
    fn go_on(
        &self,
        epoll: &OwnedFd,
        at: usize,
        connection: &mut Connection,
        buffer: &mut [u8],
    ) -> Result<bool, String> {
        if !connection.sent {
            match rustix::io::write(&connection.socket, &self.request) {
                Ok(n) if n == self.request.len() => connection.sent = true,
                Ok(n) => return Err(format!("only {n} octets could be sent at once")),
                Err(Errno::AGAIN) => return Ok(false),
                Err(e) => return Err(format!("connect: {e}")),
            }
            epoll::modify(epoll, &connection.socket, EventData::new_u64(at as u64), EventFlags::IN)
                .map_err(|e| e.to_string())?;
            return Ok(false);
        }
        loop {
            match rustix::io::read(&connection.socket, &mut *buffer) {
                Ok(0) if connection.have == self.answer => return Ok(true),
                Ok(0) => return Err(format!("{} of {} octets", connection.have, self.answer)),
                Ok(n) => connection.have += n,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
                Err(e) => return Err(format!("read: {e}")),
            }
        }
    }
}
