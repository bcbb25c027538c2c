//! Profiles as text for people.

use super::HwProfile;
use super::types::*;
use std::fmt::Write;

/// Lines of cells as a table: columns as wide as their widest cell, two spaces between them.
pub(crate) fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |n: usize| lines.iter().filter_map(|l| l.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text broken into lines of at most about 90 characters, those after the first indented.
pub(crate) fn wrap(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() + indent > 96 {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

fn idle(idle: Idle) -> &'static str {
    match idle {
        Idle::Spin => "spin",
        Idle::Backoff => "backoff",
    }
}

/// The number that a limit has, or the lowest and the highest where devices differ.
fn range(p: &HwProfile, between: &str, of: &dyn Fn(&Limits) -> u16) -> String {
    let base = [p.limits(None)];
    let kinds: Vec<u16> = p.devices().iter().map(|d| of(&d.limits)).collect();
    let all = if kinds.is_empty() { base.iter().map(of).collect() } else { kinds };
    match (all.iter().min(), all.iter().max()) {
        (Some(min), Some(max)) if min != max => format!("{min}{between}{max}"),
        (Some(only), _) => only.to_string(),
        _ => String::new(),
    }
}

/// One line for each profile.
#[must_use]
pub fn render_list(profiles: &[HwProfile]) -> String {
    let mut lines = vec![
        ["NAME", "DRIVER", "QUEUES", "RSS", "MTU", "IDLE", "SESSIONS", "FOR"].map(str::to_owned).to_vec(),
    ];
    for p in profiles {
        let range = |of: &dyn Fn(&Limits) -> u16| range(p, "-", of);
        lines.push(vec![
            p.name().to_owned(),
            p.driver().name.clone(),
            range(&|l| l.max_rx_queues.min(l.max_tx_queues)),
            match p.rss() {
                Rss::None => "none".to_owned(),
                Rss::Kernel => "kernel".to_owned(),
                Rss::Toeplitz { .. } => range(&|l| l.rss_queues),
            },
            p.max_mtu(None).to_string(),
            idle(p.cores().idle).to_owned(),
            p.capacity().sessions.to_string(),
            p.summary().to_owned(),
        ]);
    }
    table(&lines)
}

/// Everything about one profile.
#[must_use]
pub fn render_show(p: &HwProfile) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<14}{}", wrap(value, 14));
    };
    let checksums = |list: &[Checksum]| match list {
        [] => "none".to_owned(),
        list => list.iter().map(|c| c.name()).collect::<Vec<_>>().join(" "),
    };
    let ring =
        |r: Ring| format!("{} to {}, a multiple of {}, default {}", r.min, r.max, r.multiple, r.default);
    let bus = match p.driver().bus {
        Bus::Pci => "PCI",
        Bus::Vdev => "virtual device",
    };

    line("profile", p.name());
    line("for", p.summary());
    line("driver", &format!("{} ({bus})", p.driver().name));
    let range = |of: &dyn Fn(&Limits) -> u16| range(p, " to ", of);
    let (rx, tx) = (range(&|l| l.max_rx_queues), range(&|l| l.max_tx_queues));
    line("max queues", &format!("{rx} receive, {tx} transmit; default {}", p.queues().default));
    line("rx ring", &ring(p.descriptors().rx));
    line("tx ring", &ring(p.descriptors().tx));
    match p.rss() {
        Rss::None => line("rss", "none"),
        Rss::Kernel => line("rss", "the kernel's own hash"),
        Rss::Toeplitz { fields, key, prediction, .. } => {
            line(
                "rss",
                &format!(
                    "Toeplitz; reaches {} queues by a table of {} entries; {}",
                    range(&|l| l.rss_queues),
                    range(&|l| l.rss_table),
                    match prediction {
                        Prediction::Microsoft => "queues can be foretold",
                        Prediction::Unverified => "queues are not foretold (hash not verified)",
                    }
                ),
            );
            line("rss fields", &fields.iter().map(RssField::name).collect::<Vec<_>>().join(" "));
            let symmetric = if key.is_symmetric() { ", both directions alike" } else { "" };
            line("rss key", &format!("{} octets{symmetric}: {key}", key.octets().len()));
        }
    }
    let o = p.offloads();
    line("rx checksums", &format!("{}; on: {}", checksums(&o.rx), checksums(&o.rx_enabled)));
    line("tx checksums", &format!("{}; on: {}", checksums(&o.tx), checksums(&o.tx_enabled)));
    line(
        "frame",
        &format!("at most {} octets, MTU at most {}", range(&|l| l.max_frame_octets), p.max_mtu(None)),
    );
    let mac = match p.filters().mac {
        0 => "no MAC filters (promiscuous)".to_owned(),
        _ => format!("{} MAC addresses", range(&|l| l.mac_filters)),
    };
    line("filters", &format!("{mac}, {} VLANs", p.filters().vlan));
    line("pool", &format!("at least {} frames of {} octets", p.mempool().frames, p.mempool().room_octets));
    let c = p.cores();
    let numa = match c.numa {
        Numa::Same => "on the device's NUMA node only",
        Numa::Prefer => "on the device's NUMA node if possible",
        Numa::Any => "on any NUMA node",
    };
    line(
        "workers",
        &format!("{} (at most {}), {numa}, idle: {}", c.default_workers, c.max_workers, idle(c.idle)),
    );
    let t = p.capacity();
    line(
        "capacity",
        &format!(
            "{} sessions, {} mappings, {} spliced; about {} MiB",
            t.sessions,
            t.mappings,
            t.spliced,
            t.octets() >> 20
        ),
    );

    if !p.devices().is_empty() {
        text.push_str("\ndevices\n");
        let mut lines = vec![
            ["  NAME", "RX/TX QUEUES", "RSS", "TABLE", "MACS", "MTU", "IDS"].map(str::to_owned).to_vec(),
        ];
        for d in p.devices() {
            let l = d.limits;
            lines.push(vec![
                format!("  {}", d.name),
                format!("{}/{}", l.max_rx_queues, l.max_tx_queues),
                l.rss_queues.to_string(),
                l.rss_table.to_string(),
                l.mac_filters.to_string(),
                p.max_mtu(d.pci.first().copied()).to_string(),
                d.pci.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            ]);
        }
        text.push_str(&table(&lines));
    }
    if !p.quirks().is_empty() {
        text.push_str("\nquirks\n");
        for quirk in p.quirks() {
            let applies = quirk.applies.as_ref().map_or(String::new(), |a| format!("{a}: "));
            let _ = writeln!(text, "  - {}", wrap(&format!("{applies}{} [{}]", quirk.text, quirk.source), 4));
        }
    }
    text.push_str("\nsources\n");
    for (name, source) in p.sources().iter() {
        let _ = writeln!(text, "  {name:<14}{}", wrap(source, 16));
    }
    text
}
