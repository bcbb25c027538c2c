//! The cache: answers by question, shared by all workers.
