//! The hardware profile that a configuration names: the one place where the configuration looks into
//! `hwprofiles`. What the device cannot do is found here, before anything is started.

use super::checks::Checked;
use super::read::{At, Item, Source};
use super::schema::{Draft, PortDraft};
use super::{Device, Resolved};
use causeway_hwprofiles::profile::{self, Bus, CheckError, Demand, Direction, HwProfile, Idle};

/// Checks that the profile exists and can do what is asked of it. Gives what the profile decides.
pub(super) fn check(
    source: &Source<'_>,
    draft: &Draft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> Option<Resolved> {
    let gateway = &draft.gateway;
    let named = gateway.profile.as_ref()?;
    let all = match profile::all(gateway.profile_dir.as_ref().map(|dir| dir.path())) {
        Ok(all) => all,
        Err(e) => {
            let at = gateway.profile_dir.as_ref().map_or(&named.at, |dir| &dir.at);
            source.error(at, e.to_string().replace('\n', "; "), "a folder of hardware profiles");
            return None;
        }
    };
    let Some(profile) = profile::by_name(&all, named.as_str()) else {
        let mut known: Vec<&str> = all.iter().map(HwProfile::name).collect();
        known.dedup();
        source.error(&named.at, "there is no such hardware profile", known.join(", "));
        return None;
    };
    let configured = gateway
        .workers
        .as_ref()
        .map(|workers| workers.get())
        .or_else(|| u16::try_from(gateway.cores.len()).ok().filter(|cores| *cores > 0));
    for port in &draft.ports {
        port_fits(source, draft, networks, profile, named, configured, port, notes);
    }
    let capacity = profile.capacity();
    let sessions = draft.capacity.sessions.map_or(capacity.sessions, |n| n.get());
    // Each spliced connection is a session too.
    if let Some(n) = draft.capacity.spliced.filter(|n| n.get() > sessions) {
        let problem = format!("{n}, more than the sessions, which are {sessions}");
        source.error(&draft.spliced, problem, format!("at most {sessions}"));
    }
    Some(Resolved {
        workers: configured.unwrap_or(profile.cores().default_workers),
        sessions,
        spliced: draft.capacity.spliced.map_or(capacity.spliced.min(sessions), |n| n.get()),
        mappings: draft.capacity.mappings.map_or(capacity.mappings, |n| n.get()),
        idle: match profile.cores().idle {
            Idle::Spin => "spin",
            Idle::Backoff => "backoff",
        }
        .to_owned(),
    })
}

#[expect(clippy::too_many_arguments, reason = "all that a message may have to name")]
fn port_fits(
    source: &Source<'_>,
    draft: &Draft,
    networks: &[Checked],
    profile: &HwProfile,
    named: &Item<super::Name>,
    workers: Option<u16>,
    port: &PortDraft,
    notes: &mut Vec<String>,
) {
    if let Some(device) = &port.device {
        match (&device.value, profile.driver().bus) {
            (Device::Vdev(_), Bus::Pci) => {
                let problem = format!("profile `{}` is for PCI devices", profile.name());
                source.error(&device.at, problem, "`pci` with the address of a device, or another profile");
            }
            (Device::Pci(_), Bus::Vdev) => {
                let problem = format!("profile `{}` is for virtual devices", profile.name());
                source.error(&device.at, problem, "`device` with a virtual device, or another profile");
            }
            (Device::Vdev(vdev), Bus::Vdev) if vdev.driver() != profile.driver().name => notes.push(format!(
                "{}: profile `{}` was made for {}, not for {}",
                device.at.path,
                profile.name(),
                profile.driver().name,
                vdev.driver()
            )),
            _ => {}
        }
    }
    // The largest MTU of the port's networks, and where it stands.
    let on_port = |n: &&Checked| port.name.as_ref().is_some_and(|name| n.built.port == name.value);
    let largest = networks.iter().filter(on_port).max_by_key(|n| n.built.mtu);
    let demand = Demand {
        ports: u16::try_from(draft.ports.len()).unwrap_or(u16::MAX),
        workers,
        rx_descriptors: port.rx_descriptors.as_ref().map(|n| n.get()),
        tx_descriptors: port.tx_descriptors.as_ref().map(|n| n.get()),
        mtu: largest.map(|n| n.built.mtu.octets()),
        ..Demand::default()
    };
    let Err(errors) = profile.check(&demand) else { return };
    for error in errors {
        let text = error.to_string();
        // Messages of profiles end with what is allowed.
        let (problem, allowed) =
            text.strip_suffix(')').and_then(|t| t.split_once(" (allowed: ")).unwrap_or((text.as_str(), ""));
        let problem = format!("profile `{}` cannot do {problem}", profile.name());
        source.error(place(&error, draft, port, largest).unwrap_or(&named.at), problem, allowed);
    }
}

/// The value that an error is about, where there is one in the file.
fn place<'a>(
    error: &CheckError,
    draft: &'a Draft,
    port: &'a PortDraft,
    largest: Option<&'a Checked>,
) -> Option<&'a At> {
    match error {
        CheckError::Workers { .. }
        | CheckError::Queues { .. }
        | CheckError::QueuesBelowWorkers { .. }
        | CheckError::RssQueues { .. } => {
            let workers = draft.gateway.workers.as_ref().map(|workers| &workers.at);
            workers.or_else(|| draft.gateway.cores.last().map(|core| &core.at))
        }
        CheckError::Descriptors { direction: Direction::Rx, .. } => {
            port.rx_descriptors.as_ref().map(|n| &n.at)
        }
        CheckError::Descriptors { direction: Direction::Tx, .. } => {
            port.tx_descriptors.as_ref().map(|n| &n.at)
        }
        CheckError::Mtu { .. } => largest.and_then(|n| n.mtu.as_ref()).map(|mtu| &mtu.at),
        _ => None,
    }
}
