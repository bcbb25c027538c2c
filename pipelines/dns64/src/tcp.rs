//! DNS over TCP (RFC 7766), to clients and to upstreams, on `smoltcp`: one small stack for each connection.
