//! The Causeway appliance: command line, configuration, control plane, and the assembly of the workers.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod gateway;
pub mod log;
pub mod plan;
#[cfg(test)]
mod testing;
pub mod worker;
