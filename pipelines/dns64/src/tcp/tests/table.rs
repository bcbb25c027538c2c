//! Every state of a connection and every event.
