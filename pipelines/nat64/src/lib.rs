//! nat64
