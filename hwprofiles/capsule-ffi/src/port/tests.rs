//! What becomes of settings, on devices that are made up.

use super::*;

/// A card that hashes TCP over IPv6, has a 40-octet key and checks IPv4 headers.
fn card() -> rte_eth_dev_info {
    rte_eth_dev_info {
        max_rx_pktlen: 9728,
        hash_key_size: 40,
        flow_type_rss_offloads: c::CW_RSS_NONFRAG_IPV6_TCP | c::CW_RSS_IPV4,
        rx_offload_capa: c::CW_RX_OFFLOAD_IPV4_CKSUM | c::CW_RX_OFFLOAD_RSS_HASH,
        tx_offload_capa: c::DEV_TX_OFFLOAD_MBUF_FAST_FREE,
        ..rte_eth_dev_info::default()
    }
}

fn applied(settings: &Settings, info: &rte_eth_dev_info, queues: u16) -> (rte_eth_conf, Outcome) {
    let mut conf = rte_eth_conf::default();
    let mut key = settings.rss_key.clone();
    let outcome = apply(settings, &mut key, info, 3, queues, &mut conf);
    (conf, outcome)
}

#[test]
fn only_what_the_device_can_do_is_asked_of_it() {
    let settings = Settings {
        mtu: Some(9000),
        rss_fields: c::CW_RSS_NONFRAG_IPV6_TCP | c::CW_RSS_NONFRAG_IPV6_UDP,
        rss_key: vec![7; 40],
        rx_offloads: c::CW_RX_OFFLOAD_IPV4_CKSUM | c::CW_RX_OFFLOAD_TCP_CKSUM,
        tx_offloads: c::CW_TX_OFFLOAD_UDP_CKSUM,
    };
    let (conf, outcome) = applied(&settings, &card(), 2);
    assert_eq!(
        outcome,
        Outcome {
            port: 3,
            queues: 2,
            mtu: 9000,
            rss_fields: c::CW_RSS_NONFRAG_IPV6_TCP,
            rx_offloads: c::CW_RX_OFFLOAD_IPV4_CKSUM | c::CW_RX_OFFLOAD_RSS_HASH,
            tx_offloads: 0,
        }
    );
    assert_eq!(conf.rxmode.mtu, 9000);
    assert_eq!(conf.rxmode.mq_mode, rte_eth_rx_mq_mode::ETH_MQ_RX_RSS);
    assert_eq!(conf.rx_adv_conf.rss_conf.rss_key_len, 40);
    assert!(!conf.rx_adv_conf.rss_conf.rss_key.is_null());
}

#[test]
fn a_key_of_another_length_than_the_devices_is_left_out() {
    let settings = Settings { rss_fields: c::CW_RSS_IPV4, rss_key: vec![7; 52], ..Settings::default() };
    let (conf, outcome) = applied(&settings, &card(), 2);
    assert_eq!(outcome.rss_fields, c::CW_RSS_IPV4);
    assert!(conf.rx_adv_conf.rss_conf.rss_key.is_null());
}

#[test]
fn one_queue_needs_no_scaling() {
    let settings = Settings { rss_fields: c::CW_RSS_IPV4, rss_key: vec![7; 40], ..Settings::default() };
    let (conf, outcome) = applied(&settings, &card(), 1);
    assert_eq!((conf.rxmode.mq_mode, outcome.rss_fields), (rte_eth_rx_mq_mode::ETH_MQ_RX_NONE, 0));
}

#[test]
fn a_device_that_hashes_nothing_is_not_asked_to() {
    let info = rte_eth_dev_info { flow_type_rss_offloads: 0, ..card() };
    let settings = Settings { rss_fields: c::CW_RSS_IPV4, ..Settings::default() };
    let (conf, _) = applied(&settings, &info, 2);
    assert_eq!(conf.rxmode.mq_mode, rte_eth_rx_mq_mode::ETH_MQ_RX_NONE);
}

#[test]
fn a_kernel_interface_keeps_its_own_mtu_where_its_driver_would_refuse() {
    let info = rte_eth_dev_info { if_index: 7, max_rx_pktlen: 1518, ..card() };
    let (conf, outcome) = applied(&Settings { mtu: Some(9000), ..Settings::default() }, &info, 1);
    assert_eq!((conf.rxmode.mtu, outcome.mtu), (0, 0));
    let (conf, _) = applied(&Settings { mtu: Some(1500), ..Settings::default() }, &info, 1);
    assert_eq!(conf.rxmode.mtu, 1500);
}
