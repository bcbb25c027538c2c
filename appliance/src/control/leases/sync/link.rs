//! The connection between two gateways: sockets, threads, and nothing that decides anything.
//!
//! ```text
//!  listen -> accept --+
//!                     +--> hello, proof --> Up --> reading thread -> Event::Message
//!  connect -> dial ---+                         \-> writing thread <- Connection::send
//! ```
//! Everything that comes from a connection goes to the lease thread as [`Event`]s. A stranger can make at most
//! [`STRANGERS`] threads wait for [`HANDSHAKE`].

use super::super::store::{NodeId, random};
use super::super::{Endpoint, PeerConfig};
use super::auth::{Conversation, FrameKey, HELLO, Hello, PROOF, Role};
use super::codec::{FRAME_MAX, HEAD, LEASES, Message, TAG};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long both ends have to prove themselves.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Connections that may be at that at once.
const STRANGERS: usize = 4;
/// Between two attempts to connect, and two looks for a connection.
const AGAIN: Duration = Duration::from_millis(100);
/// Messages that wait to be sent, and events that wait for the lease thread.
const WAITING: usize = 256;
/// Octets of a secret, at least.
const SECRET_MIN: usize = 16;

/// Why a pair cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The secret cannot be read.
    #[error("peer's secret {path}: {why}")]
    Secret {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The socket cannot be had.
    #[error("cannot listen for the peer on {at}: {error}")]
    Listen {
        /// Where.
        at: Endpoint,
        /// What came of it.
        error: io::Error,
    },
    /// No thread can be had.
    #[error("thread for the peer: {0}")]
    Thread(io::Error),
}

/// Reads a secret.
pub(in super::super) fn secret(path: &Path) -> Result<Box<[u8]>, LinkError> {
    let bad = |why: String| LinkError::Secret { path: path.display().to_string(), why };
    let mode = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(bad(format!(
            "its mode {:o} lets everybody read or change it; 600 is good",
            mode & 0o777
        )));
    }
    let text = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let secret = text.trim_ascii_end();
    if secret.len() < SECRET_MIN {
        return Err(bad(format!("it has {} octets, at least {SECRET_MIN} are needed", secret.len())));
    }
    Ok(secret.into())
}

/// What a connection has for the lease thread.
pub(in super::super) enum Event {
    /// The other gateway is there.
    Up(Connection),
    /// It says something.
    Message(u64, Message),
    /// It is gone.
    Down(u64, String),
}

/// A connection whose other end proved to be the peer. Dropping it closes it.
pub(in super::super) struct Connection {
    pub(in super::super) id: u64,
    pub(in super::super) peer: NodeId,
    /// The end that connected.
    pub(in super::super) connecting: NodeId,
    outgoing: Sender<Message>,
    stream: Arc<Stream>,
}

impl Connection {
    /// Sends a message, or finds that there is no room or nobody.
    pub(in super::super) fn send(&self, message: Message) -> Result<(), &'static str> {
        self.outgoing.try_send(message).map_err(|e| match e {
            TrySendError::Full(_) => "it takes too little",
            TrySendError::Disconnected(_) => "the connection is closed",
        })
    }

    /// True if more than the urgent can be sent.
    pub(in super::super) fn has_room(&self) -> bool {
        self.outgoing.len() < WAITING / 2
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // What was sent last, a refusal for instance, is given a moment by the writing thread, which ends
        // with the channel and shuts the stream down then. A peer that does not read is cut off by its
        // timeout; our reading ends here.
        let _ = self.stream.shutdown(Shutdown::Read);
    }
}

/// A TCP or a unix stream.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn timeouts(&self, within: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(s) => {
                s.set_nodelay(true)?;
                s.set_nonblocking(false)?;
                s.set_read_timeout(Some(within))?;
                s.set_write_timeout(Some(within))
            }
            Self::Unix(s) => {
                s.set_nonblocking(false)?;
                s.set_read_timeout(Some(within))?;
                s.set_write_timeout(Some(within))
            }
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.shutdown(how),
            Self::Unix(s) => s.shutdown(how),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => (&mut &*s).read(buf),
            Stream::Unix(s) => (&mut &*s).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => (&mut &*s).write(buf),
            Stream::Unix(s) => (&mut &*s).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn open(at: &Endpoint) -> io::Result<Self> {
        match at {
            Endpoint::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            Endpoint::Unix(path) => {
                if UnixStream::connect(path).is_err() {
                    // Nobody listens there any more: left over.
                    let _ = std::fs::remove_file(path);
                }
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener))
            }
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(l) => l.accept().map(|(s, _)| Stream::Tcp(s)),
            Self::Unix(l) => l.accept().map(|(s, _)| Stream::Unix(s)),
        }
    }
}

fn dial(at: &Endpoint) -> io::Result<Stream> {
    match at {
        Endpoint::Tcp(address) => TcpStream::connect_timeout(address, HANDSHAKE).map(Stream::Tcp),
        Endpoint::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
    }
}

/// What all threads of the link share.
struct Shared {
    node: NodeId,
    secret: Box<[u8]>,
    dead_after: Duration,
    events: Sender<Event>,
    stop: AtomicBool,
    ids: AtomicU64,
    strangers: AtomicUsize,
    refused: AtomicU64,
}

/// The threads that make connections. Dropping it ends them.
pub(in super::super) struct Link {
    shared: Arc<Shared>,
    /// What happens.
    pub(in super::super) events: Receiver<Event>,
    threads: Vec<JoinHandle<()>>,
    socket: Option<std::path::PathBuf>,
}

impl Link {
    /// Listens and connects as configured, for the store `node`. A connection on which nothing comes for
    /// `dead_after` is closed.
    pub(in super::super) fn start(
        config: &PeerConfig,
        node: NodeId,
        dead_after: Duration,
    ) -> Result<Self, LinkError> {
        let (sender, events) = bounded(WAITING);
        let shared = Arc::new(Shared {
            node,
            secret: secret(&config.secret_file)?,
            dead_after,
            events: sender,
            stop: AtomicBool::new(false),
            ids: AtomicU64::new(1),
            strangers: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        });
        let mut link = Self { shared, events, threads: Vec::new(), socket: None };
        if let Some(at) = &config.listen {
            let listener = Listener::open(at).map_err(|error| LinkError::Listen { at: at.clone(), error })?;
            if let Endpoint::Unix(path) = at {
                link.socket = Some(path.clone());
            }
            link.spawn("cw-peer-accept", move |shared| accept(&shared, &listener))?;
        }
        if let Some(at) = config.connect.clone() {
            link.spawn("cw-peer-dial", move |shared| {
                while !shared.stop.load(Ordering::Acquire) {
                    if let Ok(stream) = dial(&at) {
                        converse(&shared, stream, Role::Connecting);
                    }
                    std::thread::sleep(AGAIN);
                }
            })?;
        }
        Ok(link)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(Arc<Shared>) + Send + 'static) -> Result<(), LinkError> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(shared));
        self.threads.push(thread.map_err(LinkError::Thread)?);
        Ok(())
    }

    /// Connections that did not prove to be from the peer.
    pub(in super::super) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // A thread that has something to tell does not wait for us.
        self.events = crossbeam::channel::never();
        // They look every AGAIN, or when a connection times out: not waited for.
        self.threads.clear();
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &Listener) {
    while !shared.stop.load(Ordering::Acquire) {
        let Ok(stream) = listener.accept() else {
            std::thread::sleep(AGAIN / 4);
            continue;
        };
        if shared.strangers.fetch_add(1, Ordering::AcqRel) >= STRANGERS {
            shared.strangers.fetch_sub(1, Ordering::AcqRel);
            shared.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let inner = Arc::clone(shared);
        let spawned = std::thread::Builder::new()
            .name("cw-peer".to_owned())
            .spawn(move || converse(&inner, stream, Role::Listening));
        if spawned.is_err() {
            shared.strangers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// One connection from its beginning to its end.
fn converse(shared: &Arc<Shared>, stream: Stream, role: Role) {
    let proven = handshake(shared, &stream, role);
    if role == Role::Listening {
        shared.strangers.fetch_sub(1, Ordering::AcqRel);
    }
    let Ok((peer, conversation)) = proven else {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if stream.timeouts(shared.dead_after).is_err() {
        return;
    }
    let id = shared.ids.fetch_add(1, Ordering::Relaxed);
    let (outgoing, queue) = bounded(WAITING);
    let stream = Arc::new(stream);
    let key = conversation.frames(&shared.secret, role);
    let write = {
        let stream = Arc::clone(&stream);
        std::thread::Builder::new().name("cw-peer-write".to_owned()).spawn(move || {
            let _ = write_all(&stream, &queue, &key);
            let _ = stream.shutdown(Shutdown::Both);
        })
    };
    if write.is_err() {
        return;
    }
    let connecting = conversation.connecting.node;
    let up = Connection { id, peer, connecting, outgoing, stream: Arc::clone(&stream) };
    if shared.events.send(Event::Up(up)).is_err() {
        return;
    }
    let key = conversation.frames(&shared.secret, role.other());
    let why = match read_all(shared, &stream, id, &key) {
        Ok(()) => "it closed the connection".to_owned(),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            "nothing came from it any more".to_owned()
        }
        Err(e) => e.to_string(),
    };
    let _ = stream.shutdown(Shutdown::Both);
    let _ = shared.events.send(Event::Down(id, why));
}

fn handshake(shared: &Shared, stream: &Stream, role: Role) -> io::Result<(NodeId, Conversation)> {
    let refused = |why: &'static str| io::Error::new(io::ErrorKind::PermissionDenied, why);
    let deadline = Instant::now() + HANDSHAKE;
    stream.timeouts(HANDSHAKE)?;
    let mut stream = stream;
    let ours = Hello { node: shared.node, nonce: random()? };
    stream.write_all(&ours.emit())?;
    let mut octets = [0; HELLO];
    read_until(stream, &mut octets, deadline)?;
    let theirs = Hello::parse(&octets).ok_or_else(|| refused("not this protocol"))?;
    let conversation = match role {
        Role::Connecting => Conversation { connecting: ours, listening: theirs },
        Role::Listening => Conversation { connecting: theirs, listening: ours },
    };
    // Who connected proves itself first: who listens tells strangers nothing.
    let prove = |mut stream: &Stream| stream.write_all(&conversation.proof(&shared.secret, role));
    if role == Role::Connecting {
        prove(stream)?;
    }
    let mut proof = [0; PROOF];
    read_until(stream, &mut proof, deadline)?;
    if !conversation.proves(&shared.secret, role.other(), &proof) {
        return Err(refused("another secret"));
    }
    if role == Role::Listening {
        prove(stream)?;
    }
    Ok((theirs.node, conversation))
}

/// Reads all of `octets`; a stranger that sends one now and then does not stay longer than `deadline`.
fn read_until(mut stream: &Stream, octets: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut got = 0;
    while got < octets.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.timeouts(left)?;
        match stream.read(&mut octets[got..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => got += n,
        }
    }
    Ok(())
}

fn write_all(mut stream: &Stream, queue: &Receiver<Message>, key: &FrameKey) -> io::Result<()> {
    let mut number = 0u64;
    let mut out = Vec::new();
    while let Ok(message) = queue.recv() {
        out.clear();
        frame(&mut out, number, &message, key);
        stream.write_all(&out)?;
        number += 1;
    }
    Ok(())
}

/// Appends a frame.
fn frame(out: &mut Vec<u8>, number: u64, message: &Message, key: &FrameKey) {
    let (code, content) = message.emit();
    let length = u32::try_from(HEAD + content.len() + TAG).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    let from = out.len();
    out.extend(LEASES.to_be_bytes());
    out.extend(code.to_be_bytes());
    out.extend(number.to_be_bytes());
    out.extend(content);
    let tag = key.tag(&out[from..]);
    out.extend(tag);
}

fn read_all(shared: &Shared, mut stream: &Stream, id: u64, key: &FrameKey) -> io::Result<()> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut expected = 0u64;
    let mut buffer = Vec::new();
    loop {
        let mut length = [0; 4];
        match stream.read_exact(&mut length) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let length = u32::from_be_bytes(length) as usize;
        if !(HEAD + TAG..=FRAME_MAX).contains(&length) {
            return Err(bad("a frame has a bad length"));
        }
        buffer.resize(length, 0);
        stream.read_exact(&mut buffer)?;
        let (frame, tag) = buffer.split_at(length - TAG);
        if !key.verify(frame, tag) {
            return Err(bad("a frame has a bad tag"));
        }
        let two = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let number = frame[4..HEAD].iter().fold(0, |n, o| n << 8 | u64::from(*o));
        if number != expected {
            return Err(bad("a frame is missing or repeated"));
        }
        expected += 1;
        if two(0) != LEASES {
            continue;
        }
        let message = Message::parse(two(2), &frame[HEAD..]).map_err(|e| bad(&e.to_string()))?;
        let Some(message) = message else { continue };
        if shared.stop.load(Ordering::Acquire) || shared.events.send(Event::Message(id, message)).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
