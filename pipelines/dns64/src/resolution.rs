//! What has to be asked for a question, and what its answer is (RFC 6147): a state machine.
