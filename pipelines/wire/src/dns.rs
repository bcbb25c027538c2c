//! DNS messages (RFC 1035, 6891), as far as the fast path looks at them.
