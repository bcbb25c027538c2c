//! Octets from one side to the other.

use super::connection::Connection;

/// What a client says moves on to the server, its end included.
pub(super) fn forward(c: &mut Connection) {
    let Some(server) = c.server.as_mut() else { return };
    if server.is_opening() {
        return;
    }
    c.to_server.pour(server);
    if c.to_server.is_empty() {
        c.client.read(|octets| server.send(octets));
        if c.client.is_read_out() {
            server.close();
        }
    }
}

/// The other way, where a connection stays terminated.
pub(super) fn backward(c: &mut Connection) {
    let Some(server) = c.server.as_mut() else { return };
    let client = &mut c.client;
    server.read(|octets| client.send(octets));
    if server.is_read_out() {
        client.close();
    }
}
