//! What Causeway knows of hardware, and how it brings ports and cores up.
//!
//! [`profile`] and [`detect`] say what a device can do. [`bringup`] takes a [`bringup::Spec`], starts
//! Capsule's runtime on DPDK, and runs workers; [`mbuf`] and [`queues`] are what workers get of it: frames
//! and queues as `causeway-core` knows them.

pub mod bringup;
pub mod detect;
pub mod mbuf;
pub mod profile;
pub mod queues;
