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
    // RFC 9293 3.5.3: whoever is reset has nobody to talk to.
    if server.state() == smoltcp::socket::tcp::State::Closed && !client.is_over() && !server.is_half_closed()
    {
        client.close();
    }
}
