//! From a stored answer to the datagram that a client gets.
