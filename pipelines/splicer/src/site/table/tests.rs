use super::*;
use crate::site::{Health, Identity};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::Instant;

fn site(name: &str, server: u16) -> Site {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, server);
    Site {
        name: name.to_owned(),
        backends: vec![Backend { address, ports: Vec::new(), weight: 1, draining: false }],
        alpn: Vec::new(),
        identity: Identity::None,
        redirect: None,
        health: Health::default(),
    }
}

fn table(names: &[&str]) -> SiteTable {
    SiteTable::of(names.iter().map(|name| site(name, 1)), &mut Servers::new())
}

fn found<'t>(table: &'t SiteTable, name: &str) -> Option<&'t str> {
    table.find(name).map(|e| &*e.site.name)
}

#[test]
fn rfc9525_6_3_an_exact_name_comes_before_wildcards_and_the_longest_of_those_first() {
    let t = table(&["a.b.example", "*.b.example", "*.example", "*.x.y.b.example", "example"]);
    for (name, wanted) in [
        ("a.b.example", Some("a.b.example")),
        ("c.b.example", Some("*.b.example")),
        ("c.a.b.example", Some("*.b.example")),
        ("b.example", Some("*.example")),
        ("z.x.y.b.example", Some("*.x.y.b.example")),
        ("x.y.b.example", Some("*.b.example")),
        ("y.x.y.example", Some("*.example")),
        ("example", Some("example")),
        ("com", None),
        ("a.com", None),
        ("", None),
        (".", None),
        (".example", Some("*.example")),
        ("*.example", None),
        ("*.foo.example", None),
        ("notexample", None),
    ] {
        assert_eq!(found(&t, name), wanted, "{name}");
    }
    let long = format!("{}example", "a.".repeat(5000));
    assert_eq!(found(&t, &long), None, "no name is that long");
    let deepest = format!("{}example", "a.".repeat(123));
    assert_eq!(found(&t, &deepest), Some("*.example"));
}

#[test]
fn snapshots_do_not_see_what_comes_after_them_and_share_what_stays() {
    let mut servers = Servers::new();
    let before = SiteTable::of([site("a.example", 1), site("*.example", 2)], &mut servers);
    let after = before.with(Arc::new(Entry::new(site("a.example", 3), &mut servers)));
    let gone = after.without("*.example").without("nobody.example");
    assert_eq!((before.len(), after.len(), gone.len()), (2, 2, 1));
    let address = |t: &SiteTable| t.get("a.example").unwrap().site.backends[0].address.segments()[7];
    assert_eq!((address(&before), address(&after), address(&gone)), (1, 3, 3));
    assert_eq!(found(&after, "b.example"), Some("*.example"));
    assert_eq!(found(&gone, "b.example"), None);
    let shared = before.shards.iter().zip(&after.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!(shared, SHARDS - 1);
    assert!(SiteTable::new().is_empty() && before.iter().count() == 2);
}

#[test]
fn one_site_of_a_hundred_thousand_changes_in_less_than_ten_milliseconds() {
    let mut servers = Servers::new();
    let names = (0..100_000).map(|n| format!("site{n}.example"));
    let mut t = SiteTable::of(names.map(|n| site(&n, 1)), &mut servers);
    let mut times: Vec<_> = (0..101)
        .map(|n| {
            let began = Instant::now();
            t = t.with(Arc::new(Entry::new(site(&format!("site{}.example", n * 991), 2), &mut servers)));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    // The middle one: the machine may be busy. What this measures is tens of microseconds.
    assert!(times[50].as_millis() < 10, "{:?}", times[50]);
    assert_eq!(t.len(), 100_000);
    assert_eq!(t.find("site991.example").unwrap().site.backends[0].address.segments()[7], 2);
}

/// The rules, said once more in the simplest way.
fn by_the_book<'m>(model: &'m HashMap<String, u16>, name: &str) -> Option<&'m u16> {
    if name.starts_with('*') {
        return None;
    }
    let mut rest = name;
    model.get(name).or_else(|| {
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(found) = model.get(&format!("*.{above}")) {
                return Some(found);
            }
            rest = above;
        }
        None
    })
}

proptest! {
    #[test]
    fn any_changes_leave_what_the_rules_say(
        changes in prop::collection::vec(("(\\*\\.)?[ab](\\.[ab]){0,3}", 0..3u16), 0..60),
        asked in prop::collection::vec("[abc](\\.[ab]){0,4}", 1..20),
    ) {
        let (mut servers, mut t, mut model) = (Servers::new(), SiteTable::new(), HashMap::new());
        for (name, server) in changes {
            if server == 0 {
                t = t.without(&name);
                model.remove(&name);
            } else {
                t = t.with(Arc::new(Entry::new(site(&name, server), &mut servers)));
                model.insert(name, server);
            }
            prop_assert_eq!(t.len(), model.len());
        }
        for name in asked {
            let server = t.find(&name).map(|e| e.site.backends[0].address.segments()[7]);
            prop_assert_eq!(server.as_ref(), by_the_book(&model, &name), "{}", name);
        }
    }
}
