//! Does a configuration fit the device? Everything that does not fit is found in one go.

use super::HwProfile;
use super::types::*;
use serde::Serialize;
use std::fmt;

/// What a configuration asks of one port and of the process. What is not said is taken from the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Id of the device, if it is a PCI one: kinds of one family differ.
    pub device: Option<PciId>,
    /// How many ports the process has in all; 0 counts as 1.
    pub ports: u16,
    /// How many workers there are.
    pub workers: Option<u16>,
    /// Receive queues of the port; as many as workers if not said.
    pub rx_queues: Option<u16>,
    /// Transmit queues of the port; as many as workers if not said.
    pub tx_queues: Option<u16>,
    /// Descriptors of a receive ring.
    pub rx_descriptors: Option<u16>,
    /// Descriptors of a transmit ring.
    pub tx_descriptors: Option<u16>,
    /// The largest IP packet of the port, in octets; 1500 if not said.
    pub mtu: Option<u16>,
    /// Unicast Ethernet addresses that the port answers for, its own included; 0 counts as 1.
    pub mac_addresses: u16,
    /// Frames of the pool, which all ports share.
    pub mempool_frames: Option<u32>,
    /// Octets of data room of a frame, headroom included.
    pub room_octets: Option<u16>,
}

/// Receive or transmit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Receive.
    Rx,
    /// Transmit.
    Tx,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rx => "receive",
            Self::Tx => "transmit",
        })
    }
}

/// One thing that the device cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "error", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckError {
    /// The id is not one of the profile's.
    #[error("device {id} is none of this profile's")]
    Device {
        /// The id.
        id: PciId,
    },
    /// Too many workers, or none.
    #[error("{workers} workers (allowed: 1 to {max})")]
    Workers {
        /// What was asked for.
        workers: u16,
        /// The most.
        max: u16,
    },
    /// More queues than the device has, or none.
    #[error("{queues} {direction} queues (allowed: 1 to {max})")]
    Queues {
        /// Of which direction.
        direction: Direction,
        /// What was asked for.
        queues: u16,
        /// The most.
        max: u16,
    },
    /// A worker would have no queue of its own: a queue has one owner, and no lock.
    #[error("{queues} {direction} queues for {workers} workers (allowed: at least one for each worker)")]
    QueuesBelowWorkers {
        /// Of which direction.
        direction: Direction,
        /// What was asked for.
        queues: u16,
        /// Workers.
        workers: u16,
    },
    /// The device has the queues, but its hash does not reach all of them.
    #[error("{queues} receive queues, of which RSS fills {max} (allowed: 1 to {max})")]
    RssQueues {
        /// What was asked for.
        queues: u16,
        /// The most that RSS fills.
        max: u16,
    },
    /// A ring of a size that the device does not take.
    #[error("{descriptors} {direction} descriptors (allowed: {min} to {max}, a multiple of {multiple})")]
    Descriptors {
        /// Of which direction.
        direction: Direction,
        /// What was asked for.
        descriptors: u16,
        /// The fewest.
        min: u16,
        /// The most.
        max: u16,
        /// What the number must be a multiple of.
        multiple: u16,
    },
    /// An MTU that the device cannot do, or that IPv6 forbids (RFC 8200 5).
    #[error("MTU {mtu} (allowed: 1280 to {max})")]
    Mtu {
        /// What was asked for.
        mtu: u16,
        /// The largest.
        max: u16,
    },
    /// A frame of the MTU does not fit one buffer.
    #[error("data room of {room_octets} octets with MTU {mtu} (allowed: at least {needed})")]
    Room {
        /// What was asked for.
        room_octets: u16,
        /// The MTU.
        mtu: u16,
        /// The least.
        needed: u16,
    },
    /// The rings and the workers together would empty the pool.
    #[error("a pool of {frames} frames (allowed: at least {needed} for these queues and rings)")]
    Mempool {
        /// What was asked for.
        frames: u32,
        /// The least.
        needed: u64,
    },
}

/// Something that works, but not as well as one might think.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Notice {
    /// The port runs promiscuous and foreign frames are dropped in software.
    Promiscuous {
        /// Addresses that the port answers for.
        addresses: u16,
        /// Addresses that the device filters by.
        filters: u16,
    },
    /// With several workers, a return port cannot be chosen for the worker that it brings packets to.
    NoReturnPorts,
    /// With several workers, the kernel chooses which of them gets a flow, by a hash of its own.
    HashIsTheKernels,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promiscuous { addresses, filters } => write!(
                f,
                "the port runs promiscuous: it answers for {addresses} addresses, the device filters by {filters}"
            ),
            Self::NoReturnPorts => f.write_str(
                "how the device hashes is not verified: return traffic may come to another worker",
            ),
            Self::HashIsTheKernels => f.write_str(
                "the kernel spreads flows over the queues: return traffic may come to another worker",
            ),
        }
    }
}

/// A demand with everything that it did not say, and found to fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Checked {
    /// Workers.
    pub workers: u16,
    /// Receive queues of the port.
    pub rx_queues: u16,
    /// Transmit queues of the port.
    pub tx_queues: u16,
    /// Descriptors of a receive ring.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit ring.
    pub tx_descriptors: u16,
    /// The largest IP packet, in octets.
    pub mtu: u16,
    /// Frames of the pool.
    pub mempool_frames: u32,
    /// Octets of data room of a frame, headroom included.
    pub room_octets: u16,
    /// True if the port runs promiscuous.
    pub promiscuous: bool,
    /// What works less well than one might think.
    pub notices: Vec<Notice>,
}

/// Octets before a frame in its buffer (RTE_PKTMBUF_HEADROOM).
const HEADROOM: u16 = 128;

/// Frames that one worker may hold besides those in rings: its cache of the pool, packets that wait for a
/// next hop or for their other fragments, and bursts under way.
const HELD_PER_WORKER: u64 = 2048;

impl HwProfile {
    /// Octets of data room that a frame needs so that a packet of `mtu` octets fits one buffer.
    #[must_use]
    pub fn room_for_mtu(&self, mtu: u16) -> u16 {
        mtu.saturating_add(self.frame.overhead_octets).saturating_add(HEADROOM)
    }

    /// The largest MTU of the device with this id, in octets.
    #[must_use]
    pub fn max_mtu(&self, id: Option<PciId>) -> u16 {
        let frame = self.limits(id).max_frame_octets.saturating_sub(self.frame.overhead_octets);
        // A larger one would not fit any buffer.
        frame.min(u16::MAX - HEADROOM - self.frame.overhead_octets)
    }

    /// Fills in what the demand does not say and checks all of it against the device.
    ///
    /// # Errors
    /// Everything that does not fit. At least one.
    pub fn check(&self, demand: &Demand) -> Result<Checked, Vec<CheckError>> {
        let mut errors = Vec::new();
        if let Some(id) = demand.device
            && self.device(id).is_none()
        {
            errors.push(CheckError::Device { id });
        }
        let limits = self.limits(demand.device);

        let workers = demand.workers.unwrap_or(self.cores.default_workers);
        let max = self.cores.max_workers;
        if workers == 0 || workers > max {
            errors.push(CheckError::Workers { workers, max });
        }
        // One mistake is one error: the rest is checked as if the number were allowed.
        let workers = workers.clamp(1, max);
        let rx_queues = demand.rx_queues.unwrap_or(workers);
        let tx_queues = demand.tx_queues.unwrap_or(workers);
        for (direction, queues, max) in [
            (Direction::Rx, rx_queues, limits.max_rx_queues),
            (Direction::Tx, tx_queues, limits.max_tx_queues),
        ] {
            if queues == 0 || queues > max {
                errors.push(CheckError::Queues { direction, queues, max });
            } else if queues < workers {
                errors.push(CheckError::QueuesBelowWorkers { direction, queues, workers });
            }
        }
        let spread = match self.rss {
            Rss::Toeplitz { .. } => limits.rss_queues,
            // The kernel's fanout reaches every queue.
            Rss::Kernel => limits.max_rx_queues,
            // A port without a hash has no flows to spread: its queues are filled alike.
            Rss::None => limits.max_rx_queues,
        };
        if rx_queues > spread && rx_queues <= limits.max_rx_queues {
            errors.push(CheckError::RssQueues { queues: rx_queues, max: spread });
        }

        let rx_descriptors = demand.rx_descriptors.unwrap_or(self.descriptors.rx.default);
        let tx_descriptors = demand.tx_descriptors.unwrap_or(self.descriptors.tx.default);
        for (direction, descriptors, ring) in [
            (Direction::Rx, rx_descriptors, self.descriptors.rx),
            (Direction::Tx, tx_descriptors, self.descriptors.tx),
        ] {
            if !ring.allows(descriptors) {
                let Ring { min, max, multiple, .. } = ring;
                errors.push(CheckError::Descriptors { direction, descriptors, min, max, multiple });
            }
        }

        let mtu = demand.mtu.unwrap_or(1500);
        let max = self.max_mtu(demand.device);
        if mtu < 1280 || mtu > max {
            errors.push(CheckError::Mtu { mtu, max });
        }
        let needed = self.room_for_mtu(mtu);
        let room_octets = demand.room_octets.unwrap_or_else(|| self.mempool.room_octets.max(needed));
        if room_octets < needed && mtu <= max {
            errors.push(CheckError::Room { room_octets, mtu, needed });
        }

        let rings = u64::from(rx_queues) * u64::from(rx_descriptors)
            + u64::from(tx_queues) * u64::from(tx_descriptors);
        let needed = rings * u64::from(demand.ports.max(1)) + u64::from(workers) * HELD_PER_WORKER;
        // One less than a power of two is what DPDK's pools store best.
        let best = u32::try_from((needed + 1).next_power_of_two() - 1).unwrap_or(u32::MAX);
        let mempool_frames =
            demand.mempool_frames.unwrap_or_else(|| self.mempool.frames.max(best).min(MAX_FRAMES));
        if u64::from(mempool_frames) < needed {
            errors.push(CheckError::Mempool { frames: mempool_frames, needed });
        }

        if !errors.is_empty() {
            return Err(errors);
        }
        let mut notices = Vec::new();
        let addresses = demand.mac_addresses.max(1);
        let promiscuous = addresses > limits.mac_filters;
        if promiscuous {
            notices.push(Notice::Promiscuous { addresses, filters: limits.mac_filters });
        }
        if workers > 1 {
            match self.rss {
                Rss::Toeplitz { prediction: Prediction::Unverified, .. } => {
                    notices.push(Notice::NoReturnPorts);
                }
                Rss::Kernel => notices.push(Notice::HashIsTheKernels),
                _ => {}
            }
        }
        Ok(Checked {
            workers,
            rx_queues,
            tx_queues,
            rx_descriptors,
            tx_descriptors,
            mtu,
            mempool_frames,
            room_octets,
            promiscuous,
            notices,
        })
    }
}
