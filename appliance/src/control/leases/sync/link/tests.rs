use super::*;
use std::time::Instant;

fn secret_file(dir: &Path, text: &str) -> std::path::PathBuf {
    let path = dir.join("secret");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn config(
    listen: Option<Endpoint>,
    connect: Option<Endpoint>,
    secret_file: std::path::PathBuf,
) -> PeerConfig {
    PeerConfig {
        listen,
        connect,
        secret_file,
        ack_timeout: Duration::from_millis(100),
        alone_after: Duration::from_secs(1),
    }
}

fn next(link: &Link) -> Event {
    link.events.recv_timeout(Duration::from_secs(10)).expect("an event")
}

fn up(link: &Link) -> Connection {
    match next(link) {
        Event::Up(connection) => connection,
        _ => panic!("not a connection"),
    }
}

#[test]
fn two_links_exchange_messages_over_tcp_and_notice_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path(), "0123456789abcdef\n");
    // A port that is free: taken for a moment.
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = Endpoint::Tcp(at);
    let dead = Duration::from_secs(2);
    let a = Link::start(&config(Some(at.clone()), None, secret.clone()), [1; 16], dead).unwrap();
    let b = Link::start(&config(None, Some(at), secret), [2; 16], dead).unwrap();
    let (to_b, to_a) = (up(&a), up(&b));
    assert_eq!(
        (to_b.peer, to_a.peer, to_b.connecting, to_a.connecting),
        ([2; 16], [1; 16], [2; 16], [2; 16])
    );
    for n in 0..100 {
        to_b.send(Message::Ack(n)).unwrap();
        to_a.send(Message::Ping(n)).unwrap();
        assert!(matches!(next(&b), Event::Message(_, Message::Ack(m)) if m == n));
        assert!(matches!(next(&a), Event::Message(_, Message::Ping(m)) if m == n));
    }
    drop(to_b);
    assert!(matches!(next(&b), Event::Down(id, _) if id == to_a.id));
    drop(to_a);
    // The next one is made by itself.
    let again = loop {
        if let Event::Up(connection) = next(&b) {
            break connection;
        }
    };
    assert_eq!((again.peer, a.refused(), b.refused()), ([1; 16], 0, 0));
}

#[test]
fn a_silent_peer_is_noticed_and_a_full_queue_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path(), "0123456789abcdef");
    let at = Endpoint::Unix(dir.path().join("peer"));
    let dead = Duration::from_millis(200);
    let a = Link::start(&config(Some(at.clone()), None, secret.clone()), [1; 16], dead).unwrap();
    let b = Link::start(&config(None, Some(at), secret), [2; 16], dead).unwrap();
    let (to_b, _to_a) = (up(&a), up(&b));
    let begun = Instant::now();
    assert!(matches!(next(&a), Event::Down(id, _) if id == to_b.id));
    assert!(begun.elapsed() >= dead);
    let refused = (0..2000).find_map(|n| to_b.send(Message::Ack(n)).err());
    assert!(refused.is_some());
}

#[test]
fn strangers_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer");
    let secret = secret_file(dir.path(), "0123456789abcdef");
    let at = Endpoint::Unix(path.clone());
    let link = Link::start(&config(Some(at.clone()), None, secret.clone()), [1; 16], Duration::from_secs(1))
        .unwrap();
    // One that speaks something else, one that hangs up, one that answers with its own hello sent back.
    let mut http = UnixStream::connect(&path).unwrap();
    http.write_all(&b"GET / HTTP/1.1\r\nHost: gateway.example\r\nAccept: text/html, */*\r\n\r\n"[..])
        .unwrap();
    drop(UnixStream::connect(&path).unwrap());
    let mut mirror = UnixStream::connect(&path).unwrap();
    let mut hello = [0; HELLO];
    mirror.read_exact(&mut hello).unwrap();
    mirror.write_all(&hello).unwrap();
    let mut octets = [0; PROOF];
    mirror.write_all(&octets).unwrap();
    assert!(mirror.read_exact(&mut octets).is_err(), "who listens proves nothing to a stranger");
    let end = Instant::now() + Duration::from_secs(10);
    while link.refused() < 3 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(link.refused(), 3);
    // More than a few that say nothing do not keep the peer out for long.
    let silent: Vec<_> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let peer = Link::start(&config(None, Some(at), secret), [2; 16], Duration::from_secs(1)).unwrap();
    assert_eq!(up(&link).peer, [2; 16]);
    assert_eq!(up(&peer).peer, [1; 16]);
    drop(silent);
}

#[test]
fn a_frame_that_was_changed_or_repeated_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer");
    let text = "0123456789abcdef";
    let secret = secret_file(dir.path(), text);
    let at = Endpoint::Unix(path.clone());
    let link = Link::start(&config(Some(at), None, secret), [1; 16], Duration::from_secs(5)).unwrap();
    for (what, repeat, change) in [("repeated", true, false), ("changed", false, true)] {
        let mut stream = UnixStream::connect(&path).unwrap();
        let mut octets = [0; HELLO];
        stream.read_exact(&mut octets).unwrap();
        let ours = Hello { node: [9; 16], nonce: [9; 32] };
        let conversation = Conversation { connecting: ours, listening: Hello::parse(&octets).unwrap() };
        stream.write_all(&ours.emit()).unwrap();
        stream.write_all(&conversation.proof(text.as_bytes(), Role::Connecting)).unwrap();
        let key = conversation.frames(text.as_bytes(), Role::Connecting);
        let mut out = Vec::new();
        frame(&mut out, 0, &Message::Ping(7), &key);
        if change {
            let at = out.len() - TAG - 1;
            out[at] ^= 1;
        }
        stream.write_all(&out).unwrap();
        if repeat {
            stream.write_all(&out).unwrap();
        }
        let connection = up(&link);
        if repeat {
            assert!(matches!(next(&link), Event::Message(_, Message::Ping(7))));
        }
        assert!(
            matches!(next(&link), Event::Down(id, why) if id == connection.id && why.contains("frame")),
            "{what}"
        );
    }
}

#[test]
fn a_secret_is_long_enough_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = secret_file(dir.path(), "  sixteen octets!\n\n");
    assert_eq!(&*secret(&path).unwrap(), b"  sixteen octets!");
    let short = secret_file(dir.path(), "too short\n");
    assert!(secret(&short).unwrap_err().to_string().contains("at least 16"));
    assert!(secret(&dir.path().join("none")).is_err());
}
