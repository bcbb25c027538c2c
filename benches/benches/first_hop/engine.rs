//! The DHCPv6 engine alone: parse a Solicit, offer, parse a Request, grant; with the octets of both answers
//! made. What is on disk and on the wire is not in it.
//!
//! Exchanges of clients that have a lease (`known`), and of clients that are new (`new`); the leases of the
//! latter are taken back between windows, so that the number of leases stays what it is said to be.

use super::clients::{memory, octets, old_client, old_lease, request, server};
use causeway::control::leases::time_of_day;
use causeway_benches::clocks::{Quiet, Tsc, min_median};
use causeway_benches::{Rng, smoke};
use causeway_dhcpv6::{Change, Engine, Grant, UnixSeconds};
use std::sync::Arc;

/// Exchanges of one window: some hundred microseconds, in which a processor is seldom taken away.
const WINDOW: usize = 32;
const DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0x64, 1];

/// The answer's type, and whether it gives something.
fn ask(
    engine: &mut Engine,
    client: u32,
    octets: &[u8],
    now: UnixSeconds,
    undo: &mut Vec<Change>,
) -> (u8, bool) {
    let outcome = engine.handle(&request(client, octets), now, Grant::All);
    undo.extend(outcome.changes);
    let answer = outcome.answer.expect("an answer");
    let octets = answer.octets.expect("octets");
    (octets[0], answer.leased)
}

pub(crate) fn measure(leases: u32) {
    let tsc = Tsc::new();
    let now = time_of_day();
    let before = memory("VmRSS");
    let mut engine = Engine::new(Arc::new(server(&DUID)), (0..leases).map(|n| old_lease(n, now)));
    let after = memory("VmRSS");
    assert_eq!(engine.count(), leases as usize);
    // Of few leases, what the server has anyway would be counted as theirs.
    let each = match leases {
        100_000.. => format!("{:.0}", after.saturating_sub(before) as f64 / f64::from(leases)),
        _ => "-".to_owned(),
    };
    let windows = if smoke() { 3 } else { 1001 };
    let mut rng = Rng(u64::from(leases));
    let mut fresh = 0u32;
    for known in [true, false] {
        let mut quiet = Quiet::new(tsc.clone());
        let mut clocks = Vec::new();
        for _ in 0..windows {
            let messages: Vec<(u32, Vec<u8>, Vec<u8>)> = (0..WINDOW)
                .map(|_| {
                    let client = if known {
                        old_client(u32::try_from(rng.below(leases as usize)).unwrap_or(0))
                    } else {
                        fresh += 1;
                        fresh
                    };
                    (client, octets(client, None), octets(client, Some(&DUID)))
                })
                .collect();
            let mut undo = Vec::with_capacity(2 * WINDOW);
            let (took, good) = quiet.window(|| {
                let begin = tsc.raw();
                for (client, solicit, asks) in &messages {
                    let offer = ask(&mut engine, *client, solicit, now + 60, &mut undo);
                    assert_eq!(offer.0, 2, "an Advertise");
                    let reply = ask(&mut engine, *client, asks, now + 60, &mut undo);
                    assert_eq!(reply, (7, true), "a Reply with an address");
                }
                tsc.raw() - begin
            });
            if good {
                clocks.push(took as f64 / WINDOW as f64);
            }
            if known {
                assert_eq!(engine.count(), leases as usize, "nobody got another lease");
            } else {
                assert_eq!(engine.count(), leases as usize + WINDOW, "a lease for each");
            }
            engine.undo(&undo);
            assert_eq!(engine.count(), leases as usize, "as before");
        }
        let (least, median) = min_median(clocks);
        println!(
            "RESULT first_hop engine leases={leases} client={} exchanges_per_second={:.0} \
             exchange_us_min={:.2} exchange_us={:.2} octets_a_lease={each} rss_mib={} windows={} thrown_away={}",
            if known { "known" } else { "new" },
            1e9 * tsc.ghz() / median,
            least / tsc.ghz() / 1000.0,
            median / tsc.ghz() / 1000.0,
            after >> 20,
            quiet.kept,
            quiet.thrown,
        );
    }
}
