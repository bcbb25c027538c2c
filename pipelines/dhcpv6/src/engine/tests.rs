//! The engine against RFC 9915, clause by clause. `model` has the random sequences.

mod model;
mod size;

use super::*;
use crate::config::{Delegation, Link, Pool, Reservation};
use crate::testing::*;
use dhcproto::v6::{DhcpOption, MessageType as M, OptionCode};

fn events(outcome: &Outcome) -> Vec<(LeaseEvent, String)> {
    outcome.changes.iter().map(|c| (c.event, c.after.address.to_string())).collect()
}

// RFC 9915 16.1, RFC 9915 18.3, RFC 9915 18.3.2, RFC 9915 18.3.9, RFC 9915 21.4, RFC 9915 21.8.
#[test]
fn rfc9915_18_3_1_a_solicit_is_offered_what_a_request_gets_and_changes_nothing() {
    let mut s = Server::new(config());
    let h = host(9);
    let offer = s.ask(&h, M::Solicit, &[ia_na(7, &[]), ia_pd(8, &[])]);
    assert_eq!(offer.kind, M::Advertise);
    assert_eq!(s.engine.count(), 0);
    let reply = s.ask(&h, M::Request, &[ia_na(7, &[]), ia_pd(8, &[])]);
    assert_eq!(reply.kind, M::Reply);
    assert_eq!(offer.ias, reply.ias);
    assert_eq!(s.engine.count(), 2);
    // RFC 9915 21.4: half and four fifths of the preferred lifetime; 18.3.2: the same in all.
    assert_eq!(reply.ias.iter().map(|ia| ia.times).collect::<Vec<_>>(), [(14_400, 23_040); 2]);
    assert!(reply.ias.iter().all(|ia| (ia.leases[0].1, ia.leases[0].2) == (28_800, 43_200)));
    assert_eq!(offer.options.get(OptionCode::Preference), Some(&DhcpOption::Preference(255)));
    assert_eq!(reply.options.get(OptionCode::Preference), None);
}

#[test]
fn a_reservation_is_found_by_the_frames_source_whatever_the_duid() {
    let mut s = Server::new(config());
    assert_eq!(s.lease(&host(1)), "2001:db8:64::101");
    assert_eq!(s.lease(&host(2)), "2001:db8:64::102");
    // A cloned machine-id: one DUID, two servers.
    let clone = Host { mac: mac(9), duid: duid(1) };
    let other = s.lease(&clone);
    assert!(other.starts_with("2001:db8:64::10") && other.len() == "2001:db8:64::1000".len(), "{other}");
    assert_eq!(s.lease(&host(1)), "2001:db8:64::101");
}

#[test]
fn pxe_installer_and_system_get_the_same_address() {
    let mut s = Server::new(config());
    for h in [host(1), host(1).reinstalled(77), host(1).reinstalled(78)] {
        assert_eq!(s.lease(&h), "2001:db8:64::101");
    }
    let first = s.lease(&host(9));
    assert_eq!(s.lease(&host(9).reinstalled(77)), first);
    // The same DUID, but another IAID: a reservation holds, as the server no longer speaks of the old one.
    let reply = s.ask(&host(1).reinstalled(78), M::Request, &[ia_na(0xdead, &[])]);
    assert_eq!(reply.valid(), ["2001:db8:64::101"]);
    assert_eq!(s.engine.count(), 2);
}

#[test]
fn rfc9915_18_3_2_an_address_of_another_link_is_refused_with_not_on_link() {
    let mut s = Server::new(config());
    let reply = s.ask(&host(9), M::Request, &[ia_na(1, &["2001:db8:99::1"])]);
    assert_eq!(reply.refused(), Status::NotOnLink);
    assert_eq!(s.engine.count(), 0);
}

#[test]
fn rfc9915_18_3_2_and_18_3_9_nothing_to_give_is_said() {
    let mut bare = config();
    bare.links[0].pools.clear();
    bare.links[0].delegations.clear();
    let mut s = Server::new(bare);
    for (kind, answer) in [(M::Solicit, M::Advertise), (M::Request, M::Reply)] {
        let reply = s.ask(&host(9), kind, &[ia_na(1, &[])]);
        assert_eq!((reply.kind, reply.refused()), (answer, Status::NoAddrsAvail));
        let reply = s.ask(&host(9), kind, &[ia_pd(1, &[])]);
        assert_eq!((reply.kind, reply.refused()), (answer, Status::NoPrefixAvail));
    }
    let request = host(9).request(M::Request, &[ia_na(1, &[])]);
    assert!(s.handle(&request).answer.expect("always").none_available);
}

#[test]
fn rfc9915_16_4_another_servers_request_is_not_answered() {
    let mut s = Server::new(config());
    let mut other = SERVER.to_vec();
    other[7] ^= 1;
    let options = [DhcpOption::ClientId(duid(9)), DhcpOption::ServerId(other), ia_na(1, &[])];
    for kind in [M::Request, M::Renew, M::Release, M::Decline] {
        let outcome = s.handle(&request(mac(9), &octets(kind, &options)));
        assert_eq!(outcome.why, Some(DropReason::Dhcp6OtherServer));
        assert_eq!(outcome.answer.expect("always").octets, Err(DropReason::Dhcp6OtherServer));
        assert_eq!(outcome.changes, []);
    }
    assert_eq!(s.engine.count(), 0);
}

#[test]
fn rfc9915_18_3_3_confirm_judges_addresses_by_the_link() {
    let mut s = Server::new(config());
    let h = host(9);
    let good = s.ask(&h, M::Confirm, &[ia_na(1, &["2001:db8:64::1000", "2001:db8:64::77"])]);
    assert_eq!((good.kind, good.status), (M::Reply, Some(Status::Success)));
    let bad = s.ask(&h, M::Confirm, &[ia_na(1, &["2001:db8:64::1000"]), ia_na(2, &["2001:db8:65::1"])]);
    assert_eq!(bad.status, Some(Status::NotOnLink));
    // No address, or no knowledge of the link: no answer.
    for (config, options) in [
        (config(), vec![ia_na(1, &[])]),
        (config(), vec![ia_pd(1, &["2001:db8:64:8000::/64"])]),
        (
            Config { links: vec![Link { prefixes: Vec::new(), ..link() }], ..config() },
            vec![ia_na(1, &["2001:db8:64::1"])],
        ),
    ] {
        let outcome = Server::new(config).handle(&h.request(M::Confirm, &options));
        assert_eq!(outcome.why, Some(DropReason::Dhcp6NothingToConfirm));
    }
}

#[test]
fn rfc9915_18_3_4_renew_extends_and_says_so_to_the_disk() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    s.now += 14_400;
    let request = host(9).request(M::Renew, &[ia_na(1, &[&address])]);
    let outcome = s.handle(&request);
    let [change] = &outcome.changes[..] else { panic!("{outcome:?}") };
    assert_eq!((change.event, change.after.valid_until), (LeaseEvent::Renewed, s.now + 43_200));
    assert_eq!(change.before.as_ref().expect("it was there").valid_until, T0 + 43_200);
    assert_eq!((change.after.since, change.at), (T0, s.now));
    assert!(outcome.answer.expect("always").leased);
}

#[test]
fn rfc9915_18_3_4_renew_of_what_is_not_there_makes_a_binding_and_ends_the_old_address() {
    let mut s = Server::new(config());
    // Nobody has it: the client keeps it.
    let reply = s.ask(&host(9), M::Renew, &[ia_na(1, &["2001:db8:64::1003"])]);
    assert_eq!(reply.valid(), ["2001:db8:64::1003"]);
    // Somebody has it: another, and this one is over at once.
    let reply = s.ask(&host(8), M::Renew, &[ia_na(1, &["2001:db8:64::1003"])]);
    assert_eq!(reply.valid().len(), 1);
    assert!(reply.ias[0].leases.contains(&("2001:db8:64::1003".to_owned(), 0, 0)));
    // Of another link: over at once as well.
    let reply = s.ask(&host(7), M::Renew, &[ia_na(1, &["2001:db8:99::1"])]);
    assert!(reply.ias[0].leases.contains(&("2001:db8:99::1".to_owned(), 0, 0)));
}

#[test]
fn rfc9915_18_3_5_rebind_extends_or_says_no_binding_and_leaves_others_addresses_alone() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    assert_eq!(s.ask(&host(9), M::Rebind, &[ia_na(1, &[&address])]).valid(), [address.as_str()]);
    let unknown = s.ask(&host(8), M::Rebind, &[ia_na(1, &["2001:db8:64::77"])]);
    assert_eq!((unknown.refused(), unknown.ias[0].leases.len()), (Status::NoBinding, 0));
    let elsewhere = s.ask(&host(8), M::Rebind, &[ia_na(1, &["2001:db8:99::77"])]);
    assert_eq!(elsewhere.ias[0].leases, [("2001:db8:99::77".to_owned(), 0, 0)]);
    assert_eq!(elsewhere.ias[0].status, None);
    assert_eq!(s.engine.count(), 1);
    // Where a Solicit makes bindings, so does a Rebind.
    let mut rapid = config();
    rapid.links[0].rapid_commit = true;
    let mut s = Server::new(rapid);
    let reply = s.ask(&host(8), M::Rebind, &[ia_na(1, &["2001:db8:64::1005"])]);
    assert_eq!(reply.valid(), ["2001:db8:64::1005"]);
}

#[test]
fn rfc9915_18_3_1_rapid_commit_is_answered_by_a_reply_where_configured() {
    let mut s = Server::new(config());
    let options = [ia_na(1, &[]), DhcpOption::RapidCommit];
    assert_eq!(s.ask(&host(9), M::Solicit, &options).kind, M::Advertise);
    assert_eq!(s.engine.count(), 0);
    let mut rapid = config();
    rapid.links[0].rapid_commit = true;
    let mut s = Server::new(rapid);
    let reply = s.ask(&host(9), M::Solicit, &options);
    assert_eq!((reply.kind, s.engine.count()), (M::Reply, 1));
    assert!(reply.options.get(OptionCode::RapidCommit).is_some());
    assert_eq!(s.ask(&host(9), M::Solicit, &options[..1]).kind, M::Advertise);
}

#[test]
fn rfc9915_18_3_7_release_ends_what_is_the_clients_and_names_what_is_not() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    let stranger = s.ask(&host(8), M::Release, &[ia_na(1, &[&address])]);
    assert_eq!((stranger.status, stranger.refused()), (Some(Status::Success), Status::NoBinding));
    // An address that is not in the binding is ignored.
    let other = s.ask(&host(9), M::Release, &[ia_na(1, &["2001:db8:64::9999"])]);
    assert_eq!((other.status, other.ias.len()), (Some(Status::Success), 0));
    let outcome = s.handle(&host(9).request(M::Release, &[ia_na(1, &[&address])]));
    assert_eq!(events(&outcome), [(LeaseEvent::Released, address.clone())]);
    let lease = s.engine.lease(Kind::Address, a(&address)).expect("it is remembered");
    assert_eq!((lease.state, lease.valid_until), (State::Free, T0));
    // The same server gets the same again, at once.
    assert_eq!(s.lease(&host(9)), address);
}

#[test]
fn rfc9915_18_3_8_a_declined_address_is_left_alone_by_all() {
    let mut one = config();
    one.links[0].pools = vec![Pool { first: a("2001:db8:64::1000"), last: a("2001:db8:64::1000") }];
    let mut s = Server::new(one);
    let address = s.lease(&host(9));
    let outcome = s.handle(&host(9).request(M::Decline, &[ia_na(1, &[&address])]));
    assert_eq!(events(&outcome), [(LeaseEvent::Declined, address.clone())]);
    assert_eq!(outcome.answer.expect("always").declined, Some((a(&address), 1)));
    for n in [8, 9] {
        assert_eq!(s.ask(&host(n), M::Request, &[ia_na(1, &[&address])]).refused(), Status::NoAddrsAvail);
    }
    // RFC 9915 18.3.8: by local policy it comes back: the quarantine, and the rest after it.
    s.now += 86_400;
    assert_eq!(s.engine.expire(s.now, 10).len(), 1);
    assert_eq!(s.ask(&host(8), M::Request, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
    s.now += 3600;
    assert_eq!(s.ask(&host(8), M::Request, &[ia_na(1, &[])]).valid(), [address.as_str()]);
}

#[test]
fn declining_again_and_again_is_bounded() {
    let mut s = Server::new(config());
    let mut declined = 0;
    loop {
        let offer = s.ask(&host(9), M::Request, &[ia_na(1, &[])]);
        let Some(address) = offer.valid().first().map(|t| (*t).to_owned()) else { break };
        s.ask(&host(9), M::Decline, &[ia_na(1, &[&address])]);
        declined += 1;
    }
    assert_eq!(declined, 8);
    s.lease(&host(8));
}

// RFC 9915 21.23.
#[test]
fn rfc9915_18_3_6_an_information_request_needs_no_identity() {
    let mut c = config();
    c.links[0].options.information_refresh = Some(86_400);
    let mut s = Server::new(c);
    let outcome = s.handle(&request(mac(9), &octets(M::InformationRequest, &[wants(&[23, 32])])));
    let seen = seen(outcome.answer.expect("always").octets.as_ref().expect("a message"));
    assert_eq!(seen.kind, M::Reply);
    assert_eq!(seen.options.get(OptionCode::ClientId), None);
    let dns = DhcpOption::DomainNameServers(vec![a("2001:db8:64::53")]);
    assert_eq!(seen.options.get(OptionCode::DomainNameServers), Some(&dns));
    assert!(seen.options.get(OptionCode::InformationRefreshTime).is_some());
    // RFC 9915 21.23: nowhere else.
    let reply = s.ask(&host(9), M::Solicit, &[ia_na(1, &[]), wants(&[23, 32])]);
    assert_eq!(reply.options.get(OptionCode::InformationRefreshTime), None);
}

#[test]
fn an_address_rests_after_its_lease_before_somebody_else_gets_it() {
    let mut one = config();
    one.links[0].pools = vec![Pool { first: a("2001:db8:64::1000"), last: a("2001:db8:64::1001") }];
    let mut s = Server::new(one);
    let first = s.lease(&host(8));
    s.now += 100;
    let second = s.lease(&host(9));
    assert_eq!(s.ask(&host(7), M::Solicit, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
    s.now = T0 + 43_200;
    assert_eq!(s.engine.expire(s.now, 10).len(), 1);
    s.now += 3599;
    assert_eq!(s.engine.expire(s.now, 10).len(), 1);
    assert_eq!(s.ask(&host(7), M::Solicit, &[ia_na(1, &[&second])]).refused(), Status::NoAddrsAvail);
    s.now += 1;
    // What ended first goes first.
    assert_eq!(s.lease(&host(7)), first);
    assert_eq!(s.ask(&host(8), M::Solicit, &[ia_na(1, &[&first])]).refused(), Status::NoAddrsAvail);
}

#[test]
fn a_hint_is_honoured_if_nobody_has_it_and_a_pool_does() {
    let mut s = Server::new(config());
    let ask = |s: &mut Server, n, hint: &str| {
        s.ask(&host(n), M::Request, &[ia_na(1, &[hint])]).valid()[0].to_owned()
    };
    assert_eq!(ask(&mut s, 9, "2001:db8:64::100a"), "2001:db8:64::100a");
    assert_ne!(ask(&mut s, 8, "2001:db8:64::100a"), "2001:db8:64::100a");
    // Reserved for another, the gateway's, in no pool.
    for (n, hint) in [(7, "2001:db8:64::101"), (6, "2001:db8:64::1"), (5, "2001:db8:64::77")] {
        assert_ne!(ask(&mut s, n, hint), hint);
    }
    let reply = s.ask(&host(4), M::Request, &[ia_pd(1, &["2001:db8:64:8042::/64"])]);
    assert_eq!(reply.valid(), ["2001:db8:64:8042::/64"]);
}

#[test]
fn rfc8168_3_2_a_prefix_length_is_a_hint() {
    let mut c = config();
    c.links[0].delegations.push(Delegation { prefix: p("2001:db8:64:9000::/52"), length: 60 });
    let mut s = Server::new(c);
    let reply = s.ask(&host(9), M::Request, &[ia_pd(1, &["::/60"])]);
    assert!(reply.valid()[0].ends_with("/60"), "{reply:?}");
    let reply = s.ask(&host(8), M::Request, &[ia_pd(1, &["::/64"])]);
    assert!(reply.valid()[0].ends_with("/64"), "{reply:?}");
}

#[test]
fn several_associations_get_several_leases_up_to_the_clients_bound() {
    let mut s = Server::new(config());
    let ias: Vec<DhcpOption> = (0..10).map(|n| ia_na(n, &[])).collect();
    let offer = s.ask(&host(9), M::Solicit, &ias);
    let reply = s.ask(&host(9), M::Request, &ias);
    assert_eq!(offer.ias, reply.ias);
    let mut valid: Vec<String> = reply.valid().iter().map(|t| (*t).to_owned()).collect();
    valid.sort();
    valid.dedup();
    assert_eq!(valid.len(), 8);
    let refused = reply.ias.iter().filter(|ia| ia.status == Some(Status::NoAddrsAvail));
    assert_eq!(refused.map(|ia| ia.iaid).collect::<Vec<_>>(), [8, 9]);
    // And no more by another association, or another DUID.
    assert_eq!(s.ask(&host(9), M::Request, &[ia_na(77, &[])]).refused(), Status::NoAddrsAvail);
    let again = s.ask(&host(9).reinstalled(99), M::Request, &[ia_na(77, &[])]);
    assert!(valid.iter().any(|v| again.valid() == [v.as_str()]));
    assert_eq!(s.engine.count(), 8);
}

#[test]
fn associations_get_a_reservations_addresses_in_order() {
    let mut c = config();
    c.links[0].reservations[0].addresses = vec![a("2001:db8:64::101"), a("2001:db8:64::f1")];
    c.links[0].reservations[0].prefixes = vec![p("2001:db8:64:4000::/60")];
    let mut s = Server::new(c);
    let reply = s.ask(&host(1), M::Request, &[ia_na(5, &[]), ia_na(6, &[]), ia_na(7, &[]), ia_pd(5, &[])]);
    let first = |iaid: usize| reply.ias[iaid].leases[0].0.clone();
    assert_eq!((first(0), first(1)), ("2001:db8:64::101".to_owned(), "2001:db8:64::f1".to_owned()));
    assert!(first(2).starts_with("2001:db8:64::100"), "{reply:?}");
    assert_eq!(first(3), "2001:db8:64:4000::/60");
}

#[test]
fn a_reservation_made_while_somebody_has_the_address_waits_for_it() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    let mut newly = config();
    newly.links[0].reservations.push(reserved(8, &address));
    assert_eq!(s.engine.reconfigure(Arc::new(newly), s.now), []);
    // 8 does not get it yet, and gets something.
    let waiting = s.lease(&host(8));
    assert_ne!(waiting, address);
    // 9 has to let it go at its renewal, and gets another.
    let request = host(9).request(M::Renew, &[ia_na(1, &[&address])]);
    let outcome = s.handle(&request);
    let events = events(&outcome);
    assert_eq!(
        events.iter().map(|(e, _)| *e).collect::<Vec<_>>(),
        [LeaseEvent::Given, LeaseEvent::Withdrawn]
    );
    let reply = seen(outcome.answer.expect("always").octets.as_ref().expect("a message"));
    assert!(reply.ias[0].leases.contains(&(address.clone(), 0, 0)), "{reply:?}");
    assert_eq!(reply.valid().len(), 1);
    // Now 8 gets it at its own renewal; what it had runs out.
    s.now += 100;
    let reply = s.ask(&host(8), M::Renew, &[ia_na(1, &[&waiting])]);
    assert!(reply.ias[0].leases.contains(&(address, 28_800, 43_200)), "{reply:?}");
    assert!(reply.ias[0].leases.contains(&(waiting, 0, 43_100)), "{reply:?}");
    assert_eq!(reply.ias[0].times, (14_400, 23_040));
}

#[test]
fn an_address_that_the_gateway_takes_for_itself_is_withdrawn_at_once() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    let mut ours = config();
    ours.links[0].excluded.push(a(&address));
    let changes = s.engine.reconfigure(Arc::new(ours), s.now);
    assert_eq!(
        changes.iter().map(|c| (c.event, c.after.state)).collect::<Vec<_>>(),
        [(LeaseEvent::Withdrawn, State::Free)]
    );
    assert_ne!(s.lease(&host(9)), address);
}

#[test]
fn a_pool_that_shrinks_lets_its_leases_run_out() {
    let mut s = Server::new(config());
    let reply = s.ask(&host(9), M::Request, &[ia_na(1, &["2001:db8:64::100f"])]);
    assert_eq!(reply.valid(), ["2001:db8:64::100f"]);
    let mut smaller = config();
    smaller.links[0].pools[0].last = a("2001:db8:64::1007");
    s.engine.reconfigure(Arc::new(smaller), s.now);
    s.now += 1000;
    let reply = s.ask(&host(9), M::Renew, &[ia_na(1, &["2001:db8:64::100f"])]);
    assert_eq!(reply.valid().len(), 2);
    assert!(reply.ias[0].leases.contains(&("2001:db8:64::100f".to_owned(), 0, 42_200)), "{reply:?}");
}

#[test]
fn a_pool_is_given_to_the_last_address_and_no_further() {
    let mut s = Server::new(config());
    let mut all: Vec<String> = (10..26).map(|n| s.lease(&host(n))).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 16);
    assert_eq!(s.ask(&host(99), M::Solicit, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
}

#[test]
fn the_capacity_is_kept() {
    let mut c = config();
    c.capacity = 3;
    let mut s = Server::new(c);
    (10..13).for_each(|n| drop(s.lease(&host(n))));
    assert_eq!(s.ask(&host(13), M::Request, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
    // A lease that ended and has rested makes room.
    let first = s.engine.leases().find(|l| l.mac == Some(mac(10))).expect("it").address.to_string();
    s.ask(&host(10), M::Release, &[ia_na(1, &[&first])]);
    s.now += 3600;
    s.lease(&host(13));
    assert_eq!(s.engine.count(), 3);
}

/// Made-up clients of one link, with a pool larger than the limit, leave the other links their part.
#[test]
fn one_link_cannot_take_the_leases_of_all() {
    let mut c = config();
    c.capacity = 100;
    c.links[0].pools = vec![Pool { first: a("2001:db8:64::1000"), last: a("2001:db8:64::1fff") }];
    let other = Link {
        name: "tenant1".into(),
        link: Some(2),
        prefixes: vec![p("2001:db8:65::/64")],
        pools: vec![Pool { first: a("2001:db8:65::1000"), last: a("2001:db8:65::1fff") }],
        delegations: Vec::new(),
        reservations: Vec::new(),
        ..link()
    };
    c.links.push(other);
    let mut s = Server::new(c.clone());
    let ask = |s: &mut Server, link: u8, n: u32| {
        let client = Host { mac: MacAddr([2, 0, 0, link, (n >> 8) as u8, n as u8]), duid: duid(7) };
        let mut request = client.request(M::Request, &[ia_na(1, &[])]);
        request.link = u32::from(link);
        !s.handle(&request).answer.expect("always").none_available
    };
    // Half of a hundred is for both, 25 each; 50 are for whoever asks.
    let got = (0..200).filter(|n| ask(&mut s, 0, *n)).count();
    assert_eq!(got, 75);
    let got = (0..200).filter(|n| ask(&mut s, 2, *n)).count();
    assert_eq!((got, s.engine.count()), (25, 100));
    // Whoever has a lease keeps it, and a reservation is given in any case.
    assert!(ask(&mut s, 0, 1) && ask(&mut s, 2, 1));
    assert_eq!(s.lease(&host(1)), "2001:db8:64::101");
    // What ended is given on within its link, and does not go to the other one.
    s.now += 86_400 * 30;
    let now = s.now;
    assert_eq!(s.engine.expire(now, 1000).len(), 101);
    s.now += 86_400;
    assert_eq!((300..500).filter(|n| ask(&mut s, 2, *n)).count(), 25);
    assert_eq!(s.engine.count(), 101);
    // A change that is undone leaves the counts as they were.
    let gone = s.engine.lease(Kind::Address, a("2001:db8:64::101")).expect("it");
    let change = Change { at: now, event: LeaseEvent::Given, after: gone, before: None };
    s.engine.undo(&[change]);
    assert_eq!((s.engine.count(), ask(&mut s, 0, 900)), (100, true), "a rested one");
    // More room for the second alone, once there is.
    c.capacity = 110;
    s.engine.reconfigure(Arc::new(c), now);
    assert_eq!((1000..1200).filter(|n| ask(&mut s, 2, *n)).count(), 10);
}

#[test]
fn what_a_prefix_overlaps_is_not_given_again() {
    let mut c = config();
    c.links[0].delegations = vec![Delegation { prefix: p("2001:db8:64:8000::/60"), length: 62 }];
    let mut s = Server::new(c.clone());
    let reply = s.ask(&host(9), M::Request, &[ia_pd(1, &["2001:db8:64:8004::/62"])]);
    assert_eq!(reply.valid(), ["2001:db8:64:8004::/62"]);
    // The same space in longer pieces, with the first still in use.
    c.links[0].delegations[0].length = 64;
    s.engine.reconfigure(Arc::new(c), s.now);
    let mut got = Vec::new();
    for n in 10..30 {
        let reply = s.ask(&host(n), M::Request, &[ia_pd(1, &[])]);
        got.extend(reply.valid().first().map(|t| p(t)));
    }
    assert_eq!(got.len(), 12);
    assert!(got.iter().all(|prefix| !prefix.overlaps(p("2001:db8:64:8004::/62"))));
}

#[test]
fn without_the_disk_known_leases_are_renewed_only_as_far_as_it_says() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    assert_eq!(s.lease(&host(1)), "2001:db8:64::101");
    let before: Vec<Lease> = s.engine.leases().collect();
    s.grant = Grant::ReadOnly;
    s.now += 40_000;
    let outcome = s.handle(&host(9).request(M::Renew, &[ia_na(1, &[&address])]));
    assert_eq!(outcome.changes, []);
    let reply = seen(outcome.answer.expect("always").octets.as_ref().expect("a message"));
    // 3,200 s on the disk, and 3,600 s of rest.
    assert_eq!(reply.ias[0].leases, [(address.clone(), 6800, 6800)]);
    assert_eq!(reply.ias[0].times, (3400, 5440));
    // A reservation is nobody else's: the whole lifetime.
    let reply = s.ask(&host(1), M::Renew, &[ia_na(1, &["2001:db8:64::101"])]);
    assert_eq!(reply.ias[0].leases, [("2001:db8:64::101".to_owned(), 28_800, 43_200)]);
    // Nobody new.
    for kind in [M::Solicit, M::Request, M::Renew] {
        assert_eq!(s.ask(&host(8), kind, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
        assert_eq!(s.ask(&host(2), kind, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
    }
    assert_eq!(s.ask(&host(9), M::Release, &[ia_na(1, &[&address])]).status, Some(Status::Success));
    // And when even the rest is over, it is over.
    s.now = T0 + 43_200 + 3600;
    assert_eq!(s.ask(&host(9), M::Renew, &[ia_na(1, &[&address])]).refused(), Status::NoAddrsAvail);
    assert_eq!(s.engine.leases().collect::<Vec<_>>(), before);
}

#[test]
fn a_share_is_one_half_of_each_pool_and_known_is_nothing_new() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    let gone = s.lease(&host(8));
    s.ask(&host(8), M::Release, &[ia_na(1, &[&gone])]);
    s.now += 3600;
    s.grant = Grant::Known;
    assert_eq!(s.ask(&host(7), M::Request, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
    // What ended by its holder's word may be anybody's by now.
    assert_eq!(s.ask(&host(8), M::Request, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
    assert_eq!(s.ask(&host(9), M::Renew, &[ia_na(1, &[&address])]).valid(), [address.as_str()]);
    assert_eq!(s.ask(&host(1), M::Request, &[ia_na(1, &[])]).valid(), ["2001:db8:64::101"]);
    // Whose lease that is has not been told to the other when the two parted: nobody else gets it.
    for odd in [false, true] {
        s.grant = Grant::Share { odd, parted: s.now };
        let mut got = Vec::new();
        for n in 20..40 {
            let offer = s.ask(&host(n), M::Solicit, &[ia_na(1, &[])]);
            let valid = offer.valid();
            let other_half =
                |t: &&str| (a(t).to_bits() % 2 == 1) != odd && s.engine.lease(Kind::Address, a(t)).is_none();
            assert!(!valid.iter().any(|t| other_half(t) || **t == gone), "{offer:?}");
            got.extend(valid.first().map(|t| (*t).to_owned()));
            s.ask(&host(n), M::Request, &[ia_na(1, &[])]);
        }
        assert!(got.len() >= 6, "{got:?}");
    }
    assert_eq!(s.ask(&host(50), M::Request, &[ia_na(1, &[])]).refused(), Status::NoAddrsAvail);
    // Long before they parted: of one of them.
    s.now += 100;
    s.grant = Grant::Share { odd: a(&gone).to_bits() % 2 == 1, parted: s.now };
    assert_eq!(s.ask(&host(50), M::Request, &[ia_na(1, &[])]).valid(), [gone.as_str()]);
}

// RFC 9915 18.3.2: each answer is made anew.
#[test]
fn a_shorter_lifetime_does_not_take_back_what_was_promised() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    let mut short = config();
    (short.links[0].preferred, short.links[0].valid) = (Duration::from_secs(60), Duration::from_secs(120));
    s.engine.reconfigure(Arc::new(short), s.now);
    let reply = s.ask(&host(9), M::Renew, &[ia_na(1, &[&address])]);
    assert_eq!(reply.ias[0].leases, [(address.clone(), 60, 120)]);
    assert_eq!(s.engine.lease(Kind::Address, a(&address)).expect("it").valid_until, T0 + 43_200);
}

#[test]
fn the_administrator_ends_a_lease() {
    let mut s = Server::new(config());
    let address = a(&s.lease(&host(9)));
    let change = s.engine.withdraw(Kind::Address, address, s.now + 1).expect("it was active");
    assert_eq!((change.event, change.after.state), (LeaseEvent::Withdrawn, State::Free));
    assert_eq!(s.engine.withdraw(Kind::Address, address, s.now + 2), None);
    s.engine.undo(&[change]);
    assert_eq!(s.engine.lease(Kind::Address, address).expect("it").state, State::Active);
}

#[test]
fn leases_are_found_again_after_a_restart() {
    let mut s = Server::new(config());
    let address = s.lease(&host(9));
    let kept: Vec<Lease> = s.engine.leases().collect();
    let mut after = Server { engine: Engine::new(Arc::new(config()), kept.into_iter()), ..s };
    assert_eq!(after.lease(&host(9)), address);
    assert_eq!(after.engine.next_end(), Some(T0 + 43_200));
    assert_ne!(after.lease(&host(8)), address);
}

// RFC 9915 10, RFC 9915 21.24, RFC 9915 21.25.
#[test]
fn what_a_client_wants_and_there_is_is_told_and_nothing_else() {
    let mut c = config();
    let options = &mut c.links[0].options;
    options.search = vec!["a.example".to_owned(), "b.example.".to_owned(), "bad..example".to_owned()];
    (options.sol_max_rt, options.inf_max_rt) = (Some(600), Some(700));
    options.ntp_servers = vec![a("2001:db8::123")];
    options.boot_file_url = Some("tftp://all".to_owned());
    options.captive_portal = Some("https://portal".to_owned());
    options.encrypted_dns = vec![b"one"[..].into(), b"two"[..].into()];
    c.links[0].reservations[0].boot_file_url = Some("tftp://own".to_owned());
    let mut s = Server::new(c);
    let all =
        [DhcpOption::ClientId(duid(1)), ia_na(1, &[]), wants(&[23, 24, 31, 56, 59, 82, 83, 103, 144, 999])];
    let answer = s.handle(&request(mac(1), &octets(M::Solicit, &all))).answer.expect("always");
    let octets = answer.octets.expect("a message");
    let has = |code: u16, content: &[u8]| {
        let option = [&code.to_be_bytes()[..], &u16::to_be_bytes(content.len() as u16), content].concat();
        octets.windows(option.len()).any(|w| w == option)
    };
    // RFC 9915 10: each name in full.
    assert!(has(24, b"\x01a\x07example\0\x01b\x07example\0"));
    assert!(has(82, &[0, 0, 2, 88]) && has(83, &[0, 0, 2, 188]));
    let ntp = a("2001:db8::123").octets();
    assert!(has(31, &ntp) && has(56, &[&[0, 1, 0, 16][..], &ntp].concat()));
    assert!(has(59, b"tftp://own") && has(103, b"https://portal"));
    assert!(has(144, b"one") && has(144, b"two"));
    assert!(!answer.left_out);
    // Who does not ask is not told.
    let bare = s.ask(&host(9), M::Solicit, &[ia_na(1, &[])]);
    assert_eq!(bare.options.iter().count(), 4, "{bare:?}");
    let other = s.ask(&host(9), M::Solicit, &[ia_na(1, &[]), wants(&[59])]);
    assert!(other.options.iter().any(|o| *o == raw(59, b"tftp://all")), "{other:?}");
}

#[test]
fn rfc9915_13_a_message_from_nowhere_is_not_answered() {
    let mut s = Server::new(config());
    let mut r = host(9).request(M::Solicit, &[ia_na(1, &[])]);
    r.link = 7;
    assert_eq!(s.handle(&r).why, Some(DropReason::Dhcp6NoLink));
    let inner = host(9).message(M::Solicit, &[ia_na(1, &[])]);
    let r = request(mac(77), &relayed(0, "2001:db8:99::1", "fe80::9", &[], &inner));
    assert_eq!(s.handle(&r).why, Some(DropReason::Dhcp6NoLink));
}
fn behind_relays() -> Config {
    let mut c = config();
    c.links.push(Link {
        name: "rack7".into(),
        link: None,
        prefixes: vec![p("2001:db8:77::/64")],
        pools: vec![Pool { first: a("2001:db8:77::1000"), last: a("2001:db8:77::1fff") }],
        delegations: Vec::new(),
        reservations: vec![
            Reservation {
                interface_id: Some(b"port1"[..].into()),
                addresses: vec![a("2001:db8:77::1")],
                ..nobody()
            },
            Reservation { mac: Some(mac(5)), addresses: vec![a("2001:db8:77::5")], ..nobody() },
            Reservation {
                duid: Some(duid(6).into()),
                iaid: Some(6),
                addresses: vec![a("2001:db8:77::6")],
                ..nobody()
            },
        ],
        excluded: Vec::new(),
        ..link()
    });
    c
}
// RFC 9915 21.18.
#[test]
fn rfc9915_19_3_a_relayed_message_goes_back_through_the_same_relays() {
    let mut s = Server::new(behind_relays());
    let inner = host(9).message(M::Solicit, &[ia_na(1, &[])]);
    let near = relayed(0, "2001:db8:77::", "fe80::9", &[DhcpOption::InterfaceId(b"port9".to_vec())], &inner);
    let far =
        relayed(1, "2001:db8:70::1", "2001:db8:77::ffff", &[DhcpOption::InterfaceId(b"up".to_vec())], &near);
    let mut r = request(mac(77), &far);
    (r.source, r.source_port) = (a("2001:db8:70::1"), 1547);
    let answer = s.handle(&r).answer.expect("always");
    assert_eq!((answer.destination, answer.port, answer.given), (a("2001:db8:70::1"), 547, None));
    let (relays, seen) = unwrap(&answer, 2);
    let of = |n: usize| (relays[n].hop_count(), relays[n].link_addr(), relays[n].peer_addr());
    assert_eq!(of(0), (1, a("2001:db8:70::1"), a("2001:db8:77::ffff")));
    assert_eq!(of(1), (0, a("2001:db8:77::"), a("fe80::9")));
    // RFC 9915 21.18: given back as it came.
    let id = |n: usize| relays[n].opts().get(OptionCode::Unknown(18)).cloned();
    assert_eq!((id(0), id(1)), (Some(raw(18, b"up")), Some(raw(18, b"port9"))));
    assert!(seen.valid()[0].starts_with("2001:db8:77::1"), "{seen:?}");
}

// RFC 6939 4: what is not Ethernet's tells nothing.
#[test]
fn rfc6939_5_the_relays_word_on_the_clients_link_layer_address_counts() {
    let mut s = Server::new(behind_relays());
    let lease = |s: &mut Server, n: u8, iaid: u32, options: &[DhcpOption]| {
        let inner = host(n).message(M::Request, &[ia_na(iaid, &[])]);
        let outcome = s.handle(&request(mac(77), &relayed(0, "2001:db8:77::", "fe80::9", options, &inner)));
        let lease = outcome.changes[0].after.clone();
        (unwrap(&outcome.answer.expect("always"), 1).1.valid()[0].to_owned(), lease.identity, lease.mac)
    };
    let option79 = raw(79, &[0, 1, 2, 0, 0, 0, 1, 5]);
    let port1 = DhcpOption::InterfaceId(b"port1".to_vec());
    // By MAC address before port before DUID.
    let both = [port1.clone(), option79];
    assert_eq!(
        lease(&mut s, 6, 6, &both),
        ("2001:db8:77::5".to_owned(), Identity::Mac(mac(5)), Some(mac(5)))
    );
    let (address, identity, known) = lease(&mut s, 7, 1, &[port1]);
    assert_eq!((address.as_str(), known), ("2001:db8:77::1", None));
    assert_eq!(identity, Identity::Interface { link: a("2001:db8:77::"), id: b"port1"[..].into() });
    assert_eq!(lease(&mut s, 6, 6, &[]).0, "2001:db8:77::6");
    // The reservation by DUID names its IAID.
    assert!(lease(&mut s, 6, 7, &[]).0.starts_with("2001:db8:77::1"));
    // Not an Ethernet address: as if it were not there.
    let (_, identity, _) = lease(&mut s, 9, 1, &[raw(79, &[0, 6, 2, 0, 0, 0, 1, 5])]);
    assert_eq!(identity, Identity::Duid(duid(9).into()));
}

#[test]
fn two_servers_behind_one_port_do_not_take_each_others_live_leases() {
    let mut s = Server::new(behind_relays());
    let lease = |s: &mut Server, n: u8| {
        let inner = host(n).message(M::Request, &[ia_na(1, &[])]);
        let port = [DhcpOption::InterfaceId(b"port9".to_vec())];
        let outcome = s.handle(&request(mac(77), &relayed(0, "2001:db8:77::", "fe80::9", &port, &inner)));
        unwrap(&outcome.answer.expect("always"), 1).1.valid()[0].to_owned()
    };
    let (one, two) = (lease(&mut s, 8), lease(&mut s, 9));
    assert_ne!(one, two);
    assert_eq!((lease(&mut s, 8), lease(&mut s, 9)), (one, two));
}

#[test]
fn rfc6221_5_1_a_lightweight_relay_leaves_the_link_to_the_interface() {
    let mut s = Server::new(config());
    let inner = host(1).message(M::Request, &[ia_na(1, &[])]);
    let options = [DhcpOption::InterfaceId(b"tap1".to_vec()), raw(79, &[0, 1, 2, 0, 0, 0, 1, 1])];
    let r = request(mac(77), &relayed(0, "::", "fe80::9", &options, &inner));
    let answer = s.handle(&r).answer.expect("always");
    assert_eq!(unwrap(&answer, 1).1.valid(), ["2001:db8:64::101"]);
    // The client is on this link, and wants a gateway.
    assert_eq!(answer.given, Some((a("fe80::9"), mac(1))));
    // Behind another relay, that one tells the link.
    let mut s = Server::new(behind_relays());
    let near = relayed(0, "::", "fe80::9", &[raw(79, &[0, 1, 2, 0, 0, 0, 1, 5])], &inner);
    let answer = s
        .handle(&request(mac(77), &relayed(1, "2001:db8:77::", "fe80::7", &[], &near)))
        .answer
        .expect("always");
    assert_eq!(unwrap(&answer, 2).1.valid(), ["2001:db8:77::5"]);
    assert_eq!(answer.given, None);
}

// RFC 9915 22: who claims to be a relay does not speak for a network that it is not on.
#[test]
fn rfc9915_13_a_relay_names_its_own_network_or_one_behind_relays_only() {
    let mut c = behind_relays();
    c.links.push(Link {
        name: "tenant1".into(),
        link: Some(1),
        prefixes: vec![p("2001:db8:65::/64")],
        pools: vec![Pool { first: a("2001:db8:65::1000"), last: a("2001:db8:65::100f") }],
        delegations: Vec::new(),
        reservations: Vec::new(),
        excluded: Vec::new(),
        ..link()
    });
    let mut s = Server::new(c);
    let inner = host(9).message(M::Request, &[ia_na(1, &[])]);
    let mut ask = |number: u32, link: &str| {
        let mut r = request(mac(77), &relayed(0, link, "fe80::9", &[], &inner));
        r.link = number;
        let outcome = s.handle(&r);
        (outcome.why, outcome.changes.len())
    };
    assert_eq!(ask(0, "2001:db8:65::1"), (Some(DropReason::Dhcp6NoLink), 0));
    assert_eq!(ask(1, "2001:db8:64::1"), (Some(DropReason::Dhcp6NoLink), 0));
    assert_eq!(ask(1, "2001:db8:65::1"), (None, 1));
    assert_eq!(ask(1, "2001:db8:77::1"), (None, 1));
}

#[test]
fn rfc8357_5_2_a_relay_with_its_own_port_is_answered_there() {
    let mut s = Server::new(behind_relays());
    let inner = host(9).message(M::Solicit, &[ia_na(1, &[])]);
    let mut r = request(mac(77), &relayed(0, "2001:db8:77::", "fe80::9", &[raw(135, &[0, 0])], &inner));
    r.source_port = 40_000;
    let answer = s.handle(&r).answer.expect("always");
    assert_eq!(answer.port, 40_000);
    let (relays, _) = unwrap(&answer, 1);
    assert_eq!(relays[0].opts().get(OptionCode::Unknown(135)), Some(&raw(135, &[0, 0])));
}
